"""A provider as an engine: one mixture in, one `StemSet` out."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx

from tasks.contracts import SeparationSettings, StemSet, Value
from tasks.errors import StemwrightError, from_os_error
from tasks.net.retries import RetryPolicy
from tasks.separation.cloud.client import ServiceClient
from tasks.separation.cloud.downloads import Download
from tasks.separation.cloud.job_runner import JobRunner
from tasks.separation.cloud.job_store import Entry, JobKey, JobStore
from tasks.separation.cloud.jobs import ProviderRequest
from tasks.separation.cloud.loop_thread import LoopThread
from tasks.separation.cloud.origins import checked_base_url, origin
from tasks.separation.cloud.providers.base import CloudProvider, known_stems
from tasks.separation.cloud.timeouts import Timeouts
from tasks.separation.cloud.track import Made, Memory, Track, make
from tasks.separation.cloud.transport import Transport
from tasks.separation.cloud.uploads import UploadPolicy, upload_of
from tasks.separation.deadline import Watch
from tasks.separation.engine import Engine, EngineInfo
from tasks.separation.identity import separation_id
from tasks.separation.request import SeparationRequest
from tasks.separation.stem_choice import kept_stems
from tasks.separation.stem_files import check_format

log = logging.getLogger(__name__)
_FORGET_S = 10.0


class RemoteModel(Value):
    """A model that a provider holds: its name and stems; its weights are the provider's."""

    name: str
    sources: tuple[str, ...]
    weights_sha256: str = ""


class CloudEngine(Engine):
    """Separates tracks through a provider. Safe to call from several threads at once.

    All calls share one pool of connections and one event loop, on a thread of its own that runs
    until `close`; a later `separate` starts them again. A job outlives a killed run: the next one
    goes on with it (`job_store.py`), until `release` says that the track needs it no more.

    Args:
        model: The provider's name of the model.
        provider: From `make_provider`.
        label: What reports call the provider; by default its own name.
        sources: The model's stems; by default those of the known model, else the usual four.
        jobs: Which jobs are under way; by default those in the state folder.
        policy: When to ask again.
        timeouts: How long one request may take.
        upload: What is uploaded.
        max_jobs: At the provider at once; further calls wait, and their deadlines with them.
        log_retries: Log each wait at INFO rather than DEBUG.
        transport: The seam for tests.

    Raises:
        SettingsError: The provider's address is none.
    """

    def __init__(
        self,
        model: str,
        *,
        provider: CloudProvider,
        label: str = "",
        sources: tuple[str, ...] | None = None,
        jobs: JobStore | None = None,
        policy: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        upload: UploadPolicy | None = None,
        max_jobs: int = 16,
        log_retries: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._model = RemoteModel(name=model, sources=sources or known_stems(model))
        self._provider = provider
        self._base_url = checked_base_url(provider.base_url)
        self._info = EngineInfo(
            name=label or provider.name,
            kind="cloud",
            model=model,
            sources=self._model.sources,
            slots=max_jobs,
        )
        self._transport: Transport | None = None
        self._make_transport = partial(
            Transport.to,
            provider,
            policy=policy,
            timeouts=timeouts,
            log_retries=log_retries,
            transport=transport,
        )
        self._jobs = jobs or JobStore()
        self._upload = upload or UploadPolicy()
        self._loop = LoopThread(f"stemwright-{provider.name}")
        self._slots = asyncio.Semaphore(max_jobs)
        self._memory = Memory()
        self._forgetting: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model.name!r}, {self._provider!r})"

    @property
    def info(self) -> EngineInfo:
        return self._info

    def separation_id(self, settings: SeparationSettings) -> str:
        where = {"provider": self._info.name, "base_url": self._base_url}
        return separation_id(self._model, settings, **where)

    def price_usd(self, duration_s: float, settings: SeparationSettings) -> float:
        """What so much audio will cost by the provider's published prices; 0 where it's free."""
        return self._provider.price_usd(self._asked(duration_s, settings, self._kept(settings)))

    def check(self, settings: SeparationSettings) -> None:
        """Refuse, before anything is sent, what the provider can't make.

        Raises:
            SettingsError: It has no such stem or model, or an option is missing.
        """
        self._provider.check(self._asked(0.0, settings, self._kept(settings)))

    def separate(self, request: SeparationRequest) -> StemSet:
        """As `Engine.separate`.

        Stems that a complete job lacks, and stems that aren't the audio that they must be, are
        asked for once more, as a job of their own; what is missing then is left out of the answer.
        A stem that the provider found nothing of is silence. `only` after that is the asking once
        more: for stems that were asked for twice in vain it isn't paid a third time.

        Raises:
            KeyRejected, SourceRefused, NotAudio, ProtocolError, SubmitUnclear, RateLimited,
            ServiceError, NetworkError, DeadlineMissed, Interrupted, DiskFull, StorageError,
            SettingsError.
        """
        mixture, settings = request.mixture, request.settings
        kept = self._kept(settings)
        check_format(settings.format, settings.bit_depth)
        track = Track(request, tuple(n for n in kept if not request.only or n in request.only))
        try:
            made = self._loop.run(self._run(track), track.check)
        except StemwrightError as error:
            raise error.with_context(track=request.label, stage="separate") from error.__cause__
        return StemSet(
            track_id=mixture.track_id,
            separation_id=self.separation_id(settings),
            model=self._model.name,
            weights_sha256=self._model.weights_sha256,
            expected=kept,
            stems=made.stems,
            all_stems=len(kept) == len(self._model.sources),
            sample_rate_hz=mixture.sample_rate_hz,
            channels=mixture.channels,
            frames=mixture.frames,
            gain=made.gain,
            engine="cloud",
            provider=self._info.name,
            device="",
            stem_origins=made.origins,
            separation_s=track.watch.elapsed_s,
            cost_usd=made.cost_usd,
        )

    def release(self, track_id: str) -> None:
        """As `Engine.release`: the provider is asked to remove the track's jobs, in the background.

        Jobs that are still under way stay.
        """
        entries = self._memory.release(track_id)
        try:
            for entry in entries:
                self._jobs.drop(entry)
        except StemwrightError as error:
            # The track is done all the same; at worst its jobs are gone on with once.
            log.warning("a finished job stays among those under way: %s", error)
            return
        if entries and self._transport is not None:
            self._loop.start(self._forget(entries))

    def close(self) -> None:
        self._loop.close(self._end)

    async def _run(self, track: Track) -> Made:
        request = track.request
        async with self._slots:
            if self._transport is None:
                self._transport = self._make_transport()
            # The clock starts when a job may be made: waiting for others isn't the track's fault.
            track.watch = Watch(request.label, request.deadline_s, request.callbacks.stopping)
            scratch: Path | None = None
            try:
                request.folder.mkdir(parents=True, exist_ok=True)
                scratch = Path(tempfile.mkdtemp(prefix=".cloud-", dir=request.folder))
                runner = self._runner(track, self._transport, scratch)
                return await make(track, runner, self._memory, self._provider, self._info.name)
            except OSError as error:
                raise from_os_error(error, stage="separate") from error
            finally:
                if scratch is not None:
                    await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    def _runner(self, track: Track, transport: Transport, scratch: Path) -> JobRunner:
        mixture, settings = track.request.mixture, track.request.settings
        uploads: list[Path] = []

        async def asked(stems: tuple[str, ...], key: str) -> ProviderRequest:
            if not uploads:
                uploads.append(await asyncio.to_thread(upload_of, mixture, self._upload, scratch))
            return self._asked(mixture.duration_s, settings, stems, uploads[0], key)

        return JobRunner(
            ServiceClient(transport.under(track.watch)),
            self._jobs,
            asked,
            JobKey(
                service="{}://{}:{}".format(*origin(self._base_url)),
                track_id=mixture.track_id,
                separation_id=self.separation_id(settings),
                stems=track.wanted,
            ),
            Download(
                sample_rate_hz=mixture.sample_rate_hz,
                channels=mixture.channels,
                frames=mixture.frames,
            ),
            scratch,
            track.on_progress,
        )

    def _kept(self, settings: SeparationSettings) -> tuple[str, ...]:
        return kept_stems(self._model.name, self._model.sources, settings.stems)

    def _asked(
        self,
        duration_s: float,
        settings: SeparationSettings,
        stems: tuple[str, ...],
        path: Path = Path("mixture"),
        key: str = "-",
    ) -> ProviderRequest:
        return ProviderRequest(
            path=path,
            stems=stems,
            all_stems=len(stems) == len(self._model.sources),
            model=self._model.name,
            format=settings.format,
            bit_depth=settings.bit_depth,
            duration_s=duration_s,
            idempotency_key=key,
        )

    async def _forget(self, entries: list[Entry]) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert self._transport is not None
        self._forgetting.add(task)
        try:
            client = ServiceClient(self._transport)
            for entry in entries:
                if entry.job is not None:
                    # The provider drops it by itself sooner or later.
                    with suppress(StemwrightError):
                        await client.forget(entry.job)
        finally:
            self._forgetting.discard(task)

    async def _end(self) -> None:
        # Once round the loop, so that what was started has begun.
        await asyncio.sleep(0)
        if self._forgetting:
            await asyncio.wait(self._forgetting, timeout=_FORGET_S)
        if self._transport is not None:
            await self._transport.close()
            self._transport = None
