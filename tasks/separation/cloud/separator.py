"""The cloud with the face of `LocalSeparator`: one mixture in, one `StemSet` out."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx

from tasks.contracts import STEMS, Mixture, Progress, SeparationSettings, StemSet, Value
from tasks.errors import StemwrightError, from_os_error
from tasks.net.retries import RetryPolicy
from tasks.separation.cloud.client import ServiceClient
from tasks.separation.cloud.downloads import Download
from tasks.separation.cloud.job_runner import Courier
from tasks.separation.cloud.job_store import Entry, Ledger, Subject
from tasks.separation.cloud.loop_thread import LoopThread
from tasks.separation.cloud.origins import checked_base_url, origin
from tasks.separation.cloud.service import Order, Service
from tasks.separation.cloud.timeouts import Bounds
from tasks.separation.cloud.tracks import Made, Memory, Track, make
from tasks.separation.cloud.transport import HttpWire
from tasks.separation.cloud.uploads import UploadPolicy, upload_of
from tasks.separation.deadline import Watch
from tasks.separation.identity import separation_id
from tasks.separation.models.registry import KNOWN_MODELS
from tasks.separation.models.unblend_registry import UNBLEND_MODELS
from tasks.separation.stem_choice import kept_stems
from tasks.separation.stem_files import check_format

log = logging.getLogger(__name__)
_FORGET_S = 10.0


class RemoteModel(Value):
    """A model that a service holds: its name and stems; its weights are the service's."""

    name: str
    sources: tuple[str, ...]
    weights_sha256: str = ""


class CloudSeparator:
    """Separates tracks through a service. Safe to call from several threads at once.

    All calls share one pool of connections and one event loop, on a thread of its own that runs
    until `close`. A job outlives a killed run: the next one goes on with it (`ledger.py`), until
    `settled` says that the track needs it no more.

    Args:
        model: The service's name of the model.
        service: From `make_service`.
        provider: What the report calls the service; by default its own name.
        sources: The model's stems; by default those of the known model, else the usual four.
        ledger: Which jobs are under way; by default the one in the state folder.
        policy: When to ask again.
        bounds: How long one request may take.
        upload: What is uploaded.
        max_jobs: At the service at once; further calls wait, and their deadlines with them.
        log_retries: Log each wait at INFO rather than DEBUG.
        reasons: Why the cloud, for the report.
        transport: The seam for tests.

    Raises:
        SettingsError: The service's address is none.
    """

    def __init__(
        self,
        model: str,
        *,
        service: Service,
        provider: str = "",
        sources: tuple[str, ...] | None = None,
        ledger: Ledger | None = None,
        policy: RetryPolicy | None = None,
        bounds: Bounds | None = None,
        upload: UploadPolicy | None = None,
        max_jobs: int = 16,
        log_retries: bool = True,
        reasons: tuple[str, ...] = (),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        known = KNOWN_MODELS.get(model) or UNBLEND_MODELS.get(model)
        self.spec = RemoteModel(name=model, sources=sources or (known.stems if known else STEMS))
        self.service = service
        self.base_url = checked_base_url(service.base_url)
        self.provider = provider or service.name
        self._wire: HttpWire | None = None
        self._make_wire = partial(
            HttpWire.to,
            service,
            policy=policy,
            bounds=bounds,
            log_retries=log_retries,
            transport=transport,
        )
        self._ledger = ledger or Ledger()
        self._upload = upload or UploadPolicy()
        self._reasons = reasons
        self._loop = LoopThread(f"stemwright-{service.name}")
        self._slots = asyncio.Semaphore(max_jobs)
        self._memory = Memory()
        self._forgetting: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name!r}, {self.service!r})"

    def separation_id(self, settings: SeparationSettings) -> str:
        """The identity that a separation with these settings has."""
        return separation_id(self.spec, settings, provider=self.provider, base_url=self.base_url)

    def price_usd(self, mixture: Mixture, settings: SeparationSettings) -> float:
        """What a mixture will cost by the service's published prices; 0 where it's free."""
        kept = kept_stems(self.spec.name, self.spec.sources, settings.stems)
        return self.service.price_usd(self._order(mixture, settings, kept, mixture.path, "-"))

    def separate(
        self,
        mixture: Mixture,
        folder: Path,
        settings: SeparationSettings,
        *,
        only: frozenset[str] | None = None,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        stop: Callable[[], bool] | None = None,
        gain: float | None = None,
    ) -> StemSet:
        """Separate a mixture into files in `folder`; arguments as `LocalSeparator.separate`.

        Stems that a complete job lacks, and stems that aren't the audio that they must be, are
        asked for once more, as a job of their own; what is missing then is left out of the answer.
        A stem that the service found nothing of is silence. `only` after that is the asking once
        more: for stems that were asked for twice in vain the service isn't paid a third time.

        Raises:
            KeyRejected, SourceRefused, NotAudio, ProtocolError, SubmitUnclear, RateLimited,
            ServiceError, NetworkError, DeadlineMissed, Interrupted, DiskFull, StorageError,
            SettingsError.
        """
        kept = kept_stems(self.spec.name, self.spec.sources, settings.stems)
        check_format(settings.format, settings.bit_depth)
        wanted = tuple(name for name in kept if only is None or name in only)
        # The clock starts when a job may be made: waiting for others isn't the track's fault.
        watch = Watch(mixture.ref.label, None, stop)
        tell = progress or (lambda _: None)
        track = Track(mixture, folder, settings, wanted, only is not None, gain, tell, watch)
        try:
            made = self._loop.run(self._run(track, deadline_s, stop), track.look)
        except StemwrightError as error:
            raise error.with_context(track=mixture.ref.label, stage="separate") from error.__cause__
        return StemSet(
            track_id=mixture.track_id,
            separation_id=self.separation_id(settings),
            model=self.spec.name,
            weights_sha256=self.spec.weights_sha256,
            expected=kept,
            stems=made.stems,
            all_stems=len(kept) == len(self.spec.sources),
            sample_rate_hz=mixture.sample_rate_hz,
            channels=mixture.channels,
            frames=mixture.frames,
            gain=made.gain,
            engine="cloud",
            provider=self.provider,
            device="",
            device_reasons=self._reasons,
            stem_origins=made.origins,
            separation_s=track.watch.elapsed_s,
            cost_usd=made.cost_usd,
        )

    def settled(self, track_id: str) -> None:
        """The jobs whose stems this separator fetched for a track are needed no more.

        To be called once the track's stems are in the library, or turned out to be no use. The
        service is asked to remove them, in the background; jobs that are still under way stay.
        """
        entries = self._memory.settle(track_id)
        try:
            for entry in entries:
                self._ledger.drop(entry)
        except StemwrightError as error:
            # The track is done all the same; at worst its jobs are gone on with once.
            log.warning("a finished job stays in the ledger: %s", error)
            return
        if entries and self._wire is not None:
            self._loop.start(self._forget(entries))

    def close(self) -> None:
        """Close the connections and end the thread. A later `separate` starts them again."""
        self._loop.close(self._end)

    async def _run(
        self, track: Track, deadline_s: float | None, stop: Callable[[], bool] | None
    ) -> Made:
        async with self._slots:
            if self._wire is None:
                self._wire = self._make_wire()
            track.watch = Watch(track.mixture.ref.label, deadline_s, stop)
            scratch: Path | None = None
            try:
                track.folder.mkdir(parents=True, exist_ok=True)
                scratch = Path(tempfile.mkdtemp(prefix=".cloud-", dir=track.folder))
                courier = self._courier(track, self._wire, scratch)
                return await make(track, courier, self._memory, self.service, self.provider)
            except OSError as error:
                raise from_os_error(error, stage="separate") from error
            finally:
                if scratch is not None:
                    await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    def _courier(self, track: Track, wire: HttpWire, scratch: Path) -> Courier:
        mixture, settings = track.mixture, track.settings
        uploads: list[Path] = []

        async def order(stems: tuple[str, ...], key: str) -> Order:
            if not uploads:
                uploads.append(await asyncio.to_thread(upload_of, mixture, self._upload, scratch))
            return self._order(mixture, settings, stems, uploads[0], key)

        return Courier(
            ServiceClient(wire.under(track.watch)),
            self._ledger,
            order,
            Subject(
                service="{}://{}:{}".format(*origin(self.base_url)),
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
            track.told,
        )

    def _order(
        self,
        mixture: Mixture,
        settings: SeparationSettings,
        stems: tuple[str, ...],
        path: Path,
        key: str,
    ) -> Order:
        return Order(
            path=path,
            stems=stems,
            all_stems=len(stems) == len(self.spec.sources),
            model=self.spec.name,
            format=settings.format,
            bit_depth=settings.bit_depth,
            duration_s=mixture.duration_s,
            idempotency_key=key,
        )

    async def _forget(self, entries: list[Entry]) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert self._wire is not None
        self._forgetting.add(task)
        try:
            client = ServiceClient(self._wire)
            for entry in entries:
                if entry.job is not None:
                    # The service drops it by itself sooner or later.
                    with suppress(StemwrightError):
                        await client.forget(entry.job)
        finally:
            self._forgetting.discard(task)

    async def _end(self) -> None:
        # Once round the loop, so that what was started has begun.
        await asyncio.sleep(0)
        if self._forgetting:
            await asyncio.wait(self._forgetting, timeout=_FORGET_S)
        if self._wire is not None:
            await self._wire.close()
            self._wire = None
