"""The one thread that separates: a job after the other, beside the server and never in its way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.endpoint.engines import Engines
from deployments.endpoint.failures import DIED_TOO_OFTEN, error_message
from deployments.endpoint.folder import DataFolder
from deployments.endpoint.jobs import Job, JobStore
from deployments.endpoint.settings import EndpointSettings
from tasks.contracts import AudioPolicy, SeparationSettings, SourceAudio, StemSet, TrackRef
from tasks.errors import DeadlineMissed, Interrupted
from tasks.separation.deadline import default_deadline_s
from tasks.separation.request import Callbacks, SeparationRequest

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
_PAUSE_S = 5.0


@dataclass
class InHand:
    """The job that is being separated, as far as it is."""

    job: Job
    share: float = 0.0
    cancelled: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Takes queued jobs in their order until it is told to end.

    Args:
        finished: Told of each job that came to an end, complete or failed.
    """

    def __init__(
        self,
        store: JobStore,
        folder: DataFolder,
        engines: Engines,
        settings: EndpointSettings,
        finished: Callable[[Job], None],
    ) -> None:
        self._store = store
        self._folder = folder
        self._engines = engines
        self._settings = settings
        self._finished = finished
        self._wake = threading.Event()
        self._draining = threading.Event()
        self._stop = threading.Event()
        self._in_hand: InHand | None = None
        self._thread = threading.Thread(target=self._run, name="separation", daemon=True)

    @property
    def in_hand(self) -> InHand | None:
        return self._in_hand

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look for a job: there is a new one."""
        self._wake.set()

    def cancel(self, job_id: str) -> None:
        """Stop between segments if this is the job in hand."""
        in_hand = self._in_hand
        if in_hand is not None and in_hand.job.job_id == job_id:
            in_hand.cancelled.set()

    def drain(self) -> None:
        """Take no further job."""
        self._draining.set()
        self._wake.set()

    def stop(self) -> None:
        """Take no further job, and put the one in hand back between two segments."""
        self._stop.set()
        self.drain()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; whether it came."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._take_up()
        while not self._draining.is_set():
            # Cleared before looking, so that no job that comes meanwhile is slept over.
            self._wake.clear()
            try:
                job = self._store.claim()
                if job is not None:
                    self._work(job)
                    continue
            except Exception:
                log.exception("the queue can't be read or written")
                self._draining.wait(_PAUSE_S)
                self._take_up()
                continue
            self._wake.wait()
        self._engines.close()

    def _take_up(self) -> None:
        """Queue again what is processing although nobody processes it."""
        try:
            for job in self._store.interrupted():
                self._store.save(job.changed(status="queued", started_at=None))
                log.info("taken up again", extra=_about(job))
        except Exception:
            log.exception("the queue can't be read or written")

    def _work(self, job: Job) -> None:
        in_hand = self._in_hand = InHand(job)
        log.info("separating", extra=_about(job))
        try:
            ended = self._ended(in_hand)
        finally:
            self._in_hand = None
        if not self._store.save(ended):
            self._folder.drop(job.job_id)  # it was forgotten meanwhile
        elif ended.status == "queued":
            log.info("put back into the queue", extra=_about(ended))
        else:
            self._folder.drop_audio(job.job_id)
            self._finished(ended)

    def _ended(self, in_hand: InHand) -> Job:
        job = in_hand.job
        try:
            if job.attempts > MOST_ATTEMPTS:
                return self._failed(job, DIED_TOO_OFTEN.format(times=MOST_ATTEMPTS))
            made = self._separated(in_hand)
            return job.changed(
                status="complete",
                duration_s=made.frames / made.sample_rate_hz,
                files={name: path.name for name, path in made.stems.items()},
                gain=made.gain,
                separation_s=made.separation_s,
                **self._times(),
            )
        except Interrupted:
            # A forgotten job's row is gone, and saving this changes nothing.
            return job.changed(status="queued", started_at=None, attempts=job.attempts - 1)
        except Exception as error:
            log.exception("a job failed", extra=_about(job))
            return self._failed(job, error_message(error, job.job_id))

    def _failed(self, job: Job, message: str) -> Job:
        return job.changed(status="failed", error_message=message, **self._times())

    def _times(self) -> dict[str, float]:
        now = time.time()
        return {"finished_at": now, "expires_at": now + self._settings.keep_s}

    def _separated(self, in_hand: InHand) -> StemSet:
        from tasks.normalize import normalize

        job = in_hand.job
        began = time.monotonic()
        spec = self._engines.spec(job.model)
        work = self._folder.work(job.job_id)
        mixture = normalize(
            SourceAudio(
                ref=TrackRef(source=job.filename, kind="file"),
                path=self._folder.upload(job.job_id),
                in_scratch=True,
                bytes=job.upload_bytes,
            ),
            work,
            # Floats hold whatever was sent, so that a mixture at the model's rate stays as it is.
            AudioPolicy(
                sample_rate_hz=spec.sample_rate_hz,
                bit_depth="32f",
                max_duration_s=self._settings.max_duration_s,
            ),
        )

        def stopping() -> bool:
            return self._stop.is_set() or in_hand.cancelled.is_set()

        def progress(share: float) -> None:
            in_hand.share = share

        limit = self._settings.deadline_s or default_deadline_s(mixture.duration_s, "cpu") or 0.0
        left = limit - (time.monotonic() - began)
        if left <= 0:
            raise DeadlineMissed(f"its {limit:g} s ran out while it was decoded.")
        made = self._engines.engine(spec).separate(
            SeparationRequest(
                mixture,
                work / "stems",
                SeparationSettings(
                    model=job.model,
                    stems=job.stems,
                    format=job.format,
                    bit_depth=job.bit_depth,
                ),
                deadline_s=left,
                callbacks=Callbacks(progress, stopping),
            )
        )
        self._folder.keep_stems(job.job_id, work / "stems")
        return made.model_copy(update={"gain": made.gain * mixture.gain})


def _about(job: Job) -> dict[str, object]:
    return {"job_id": job.job_id, "model": job.model, "attempt": job.attempts}
