"""The endpoint without its HTTP: takes audio in, answers for jobs, forgets them, ends in order."""

from __future__ import annotations

import logging
import threading
import time
from importlib.metadata import version
from pathlib import Path

from deployments.endpoint.answers import Health
from deployments.endpoint.engines import Engines
from deployments.endpoint.folder import DataFolder
from deployments.endpoint.jobs import Job, JobStore
from deployments.endpoint.keys import Keys
from deployments.endpoint.metrics import Metrics
from deployments.endpoint.pace import Pace, retry_after
from deployments.endpoint.refusals import Refused, unknown_job
from deployments.endpoint.settings import EndpointSettings
from deployments.endpoint.worker import Worker

log = logging.getLogger(__name__)

_SHORTEST_SWEEP_S, _LONGEST_SWEEP_S = 0.05, 60.0
_LAST_SEGMENT_S = 60.0


class Service:
    """Everything that the routes share. Made once a process; `start` before the first request.

    Raises:
        SettingsError: The data folder is another endpoint's, or can't be used.
        StorageError: The table of jobs in it is damaged.
    """

    def __init__(self, settings: EndpointSettings, keys: Keys, engines: Engines) -> None:
        self.settings = settings
        self.keys = keys
        self.engines = engines
        self.folder = DataFolder(settings.data)
        self.store = JobStore(self.folder.database)
        self.pace = Pace(
            (job.duration_s or 0.0, _spent_s(job))
            for job in reversed(self.store.newest_complete(20))
        )
        self.metrics = Metrics(self.store.counts, lambda: self.pace.factor)
        self.worker = Worker(self.store, self.folder, engines, settings, self._finished)
        self.stopping = threading.Event()
        self._closed = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="sweeper", daemon=True)

    def start(self) -> None:
        """Take up what a process before this one left, and begin to work."""
        self.folder.tidy(self.store.ids())
        self.worker.start()
        self._sweeper.start()

    def wind_down(self, grace_s: float) -> None:
        """Refuse submits, let the job in hand finish, and after `grace_s` put it back."""
        self.stopping.set()
        self.worker.drain()
        if not self.worker.join(grace_s):
            self.hurry()
            self.worker.join(_LAST_SEGMENT_S)

    def hurry(self) -> None:
        """Put the job in hand back at its next segment."""
        self.stopping.set()
        self.worker.stop()

    def close(self) -> None:
        """End whatever still runs. A job that doesn't end in time is taken up at the next start."""
        self.wind_down(0.0)
        self._closed.set()
        if self._sweeper.ident is not None:
            self._sweeper.join()
        if not self.worker.alive:
            self.store.close()
        self.folder.close()

    def job(self, job_id: str, owner: str) -> Job:
        """A job of this owner's.

        Raises:
            Refused: 404.
        """
        job = self.store.get(job_id)
        if job is None or job.owner != owner or _is_over(job, time.time()):
            raise unknown_job()
        return job

    def stem(self, job_id: str, name: str, owner: str) -> Path:
        """The file of one stem, by its name with its suffix.

        Raises:
            Refused: 404.
        """
        job = self.job(job_id, owner)
        path = self.folder.stems(job_id) / name
        if name not in job.files.values() or not path.is_file():
            raise Refused(404, "There is no such stem.")
        return path

    def forget(self, job_id: str, owner: str) -> None:
        """Remove a job, its stems, and its separation if that is under way.

        Raises:
            Refused: 404.
        """
        job = self.job(job_id, owner)
        self.store.remove(job.job_id)
        self.worker.cancel(job.job_id)
        in_hand = self.worker.in_hand
        if in_hand is None or in_hand.job.job_id != job_id:
            self.folder.drop(job_id)
        log.info("forgotten", extra={"job_id": job_id})

    def standing(self, job: Job) -> tuple[float | None, int | None]:
        """How far a job is: its progress if it is in hand, its place if it waits."""
        if job.status == "queued":
            return None, self.store.waiting_before(job.job_id)
        in_hand = self.worker.in_hand
        mine = in_hand is not None and in_hand.job.job_id == job.job_id
        return (in_hand.share if mine and in_hand else None), None

    def place_wait(self) -> str:
        """When a place in the queue is likely to come free, as `Retry-After` has it."""
        in_hand = self.worker.in_hand
        if in_hand is None:
            return retry_after(5.0)
        whole_s = self.pace.seconds_for(in_hand.job.duration_s)
        return retry_after(whole_s * (1 - in_hand.share))

    @property
    def health(self) -> Health:
        state = "ok"
        if self.stopping.is_set():
            state = "stopping"
        elif not self.worker.alive:
            state = "broken"
        return Health(status=state, version=version("stemwright"))

    def _finished(self, job: Job) -> None:
        self.metrics.jobs_ended.labels(job.status).inc()
        about: dict[str, object] = {"job_id": job.job_id, "model": job.model, "status": job.status}
        if job.status == "complete":
            self.pace.add(job.duration_s or 0.0, _spent_s(job))
            self.metrics.separation_seconds.observe(job.separation_s or 0.0)
            self.metrics.audio_seconds.inc(job.duration_s or 0.0)
            about |= {
                "duration_s": round(job.duration_s or 0.0, 3),
                "separation_s": round(job.separation_s or 0.0, 3),
            }
        log.info("job ended", extra=about)

    def _sweep(self) -> None:
        pause = min(max(self.settings.keep_s / 10, _SHORTEST_SWEEP_S), _LONGEST_SWEEP_S)
        while not self._closed.wait(pause):
            try:
                for job in self.store.expired(time.time()):
                    self.store.remove(job.job_id)
                    self.folder.drop(job.job_id)
                    log.info("expired", extra={"job_id": job.job_id})
            except Exception:
                log.exception("expired jobs couldn't be removed")


def _spent_s(job: Job) -> float:
    return (job.finished_at or 0.0) - (job.started_at or 0.0)


def _is_over(job: Job, now: float) -> bool:
    return job.expires_at is not None and job.expires_at <= now
