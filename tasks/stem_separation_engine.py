"""The article's `StemSeparationEngine`: one door to local and cloud separation."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from pydantic import SecretStr, ValidationError

from tasks.contracts import (
    AudioPolicy,
    AudioSource,
    Mixture,
    Provider,
    SeparationJob,
    SeparationSettings,
    SourceAudio,
    TrackRef,
    Workload,
)
from tasks.errors import DeadlineMissed, ProtocolError, SettingsError, SourceMissing
from tasks.net.retries import RetryPolicy
from tasks.separation.cloud import SeparationApi
from tasks.separation.cloud.downloads import Download
from tasks.separation.cloud.origins import is_on_loopback
from tasks.separation.engine import Engine
from tasks.separation.factory import EngineOptions, make_engine, plan_route
from tasks.separation.models import ModelSpec
from tasks.separation.request import Callbacks, SeparationRequest
from tasks.separation.services import EXAMPLE_BASE_URL, CloudApi

log = logging.getLogger(__name__)

_MODEL = "htdemucs"
_POLL_SLICE_S = 30.0
_ANY_LENGTH_S = 1e9
Prepare = Callable[[Path, Path], Mixture]


class StemSeparationEngine:
    """Separates files asynchronously, on this machine or through a service.

    A GPU is used where there is one, else the service if a key and an address are set, else the
    CPU; `provider` fixes it. No call blocks the event loop.

    Args:
        api_key: The service's key; a service on this machine's loopback may need none.
        base_url: The service; the example's address counts as none.
        provider: `auto`, `local_gpu`, `cloud`, `local_cpu`.
        workload: A row of the decision matrix, for `auto`.
        model: A model's name; by default a service's own, and `htdemucs` on this machine.
        models_dir: Folder of models; `STEMWRIGHT_MODELS` by default.
        offline: No network at all.
        output_dir: Where stems of local separations go, in `NAME_stems/`; by default beside
            each file.
        deadline_s: Time for one separation, a service's from its submit on; a CPU has a default.
        max_retries: How often a job is asked for.
        backoff_multiplier: Growth of the waits between.
        max_backoff_seconds: Longest wait.
        auto_detect: Off: `auto` doesn't look for a GPU.
        clear_cache_between_jobs: Give the GPU's cached memory back after each file.
        log_vram_usage: Log the GPU's memory after each file.
        log_retries: Log each wait.
        prepare: Makes a mixture at the model's rate of a file, given a scratch folder; by
            default the normalize stage does.
        transport: The seam for tests and proxies.

    Raises:
        SettingsError: The provider can't be had here, or an option is out of range.
    """

    def __init__(
        self,
        api_key: str | SecretStr = "",
        base_url: str = EXAMPLE_BASE_URL,
        *,
        provider: Provider = "auto",
        workload: Workload | None = None,
        model: str | None = None,
        models_dir: Path | None = None,
        offline: bool = False,
        output_dir: Path | None = None,
        deadline_s: float | None = None,
        max_retries: int = 20,
        backoff_multiplier: float = 1.5,
        max_backoff_seconds: float = 30.0,
        auto_detect: bool = True,
        clear_cache_between_jobs: bool = True,
        log_vram_usage: bool = False,
        log_retries: bool = True,
        prepare: Prepare | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        key = api_key if isinstance(api_key, SecretStr) else SecretStr(api_key)
        keyed = bool(key.get_secret_value()) and base_url.rstrip("/") != EXAMPLE_BASE_URL
        configured = keyed or is_on_loopback(base_url)
        self.model = model or _MODEL
        # The article's constructor names none: then none is asked for, and the service has its own.
        self._asked_model = model
        service = CloudApi.model_construct(base_url=base_url, api_key=key)
        self._options = EngineOptions(
            settings=SeparationSettings(model=self.model),
            provider=provider,
            workload=workload,
            services=(service,) if configured else (),
            models_dir=models_dir,
            offline=offline,
            auto_detect=auto_detect,
            one_device=True,  # one file at a time
            clear_cache_between_jobs=clear_cache_between_jobs,
            log_vram_usage=log_vram_usage,
        )
        self.route = plan_route(self._options)
        log.info("separating on %s: %s", self.route.engine, "; ".join(self.route.reasons))
        if self.route.warning:
            log.warning(self.route.warning)
        self.api = SeparationApi(
            base_url,
            key,
            policy=_policy(max_retries, backoff_multiplier, max_backoff_seconds),
            log_retries=log_retries,
            transport=transport,
        )
        self._output_dir = output_dir
        self._deadline_s = deadline_s
        self._prepare = prepare
        self._spec: ModelSpec | None = None
        self._engine: Engine | None = None
        self._loading = asyncio.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="separation")
        self._stop = threading.Event()
        self._running: dict[str, asyncio.Future[dict[str, str]]] = {}
        self._folders: dict[Path, Path] = {}
        self._submitted: dict[str, float] = {}

    @property
    def use_local_gpu(self) -> bool:
        """Whether separations run on this machine's GPU."""
        return self.route.engine == "local_gpu"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, engine={self.route.engine!r})"

    async def submit_separation(self, source: AudioSource) -> SeparationJob:
        """Start the separation of a file.

        Returns:
            A job, `queued` or `processing`; pass it to `poll_job_status`.

        Raises:
            SourceMissing: No such file.
            SettingsError: A format or rate that isn't offered; UnknownModel, WeightsMissing,
                WeightsRefused, KeyRejected among them.
            Others: As `SeparationApi.submit`.
        """
        stem_format = _format(source)
        if not await asyncio.to_thread(source.file_path.is_file):
            raise SourceMissing(f"there is no file at {source.file_path}.", stage="separate")
        if self.route.engine == "cloud":
            began = asyncio.get_running_loop().time()
            async with self._in_time(began, source.file_path.name):
                job = await self.api.submit(
                    source.file_path, format=stem_format, model=self._asked_model
                )
            self._submitted[job.job_id] = began
            return job
        engine, rate_hz = await self._local()
        if source.sample_rate != rate_hz:
            raise SettingsError(
                f"{self.model} gives stems at {rate_hz} Hz, not at {source.sample_rate}."
            )
        settings = SeparationSettings(model=self.model, format=stem_format)
        folder = self._folder_for(source.file_path)
        loop = asyncio.get_running_loop()
        job_id = uuid.uuid4().hex
        self._running[job_id] = loop.run_in_executor(
            self._worker, self._separate, engine, source.file_path, folder, settings
        )
        return SeparationJob(job_id=job_id, status="processing")

    async def poll_job_status(
        self, job: SeparationJob, max_retries: int | None = None
    ) -> SeparationJob:
        """Wait until a job is complete.

        Args:
            job: From `submit_separation`.
            max_retries: How often to ask; the engine's own by default. A local separation is
                waited for and has its own deadline, unless this is given: then it is asked for
                every 30 s.

        Returns:
            The complete job. `stems` maps names to paths (local) or URLs (cloud; `download`).

        Raises:
            DeadlineMissed: Not complete in time.
            ServiceError: The service says that the job failed.
            Others: What ended the separation.
        """
        if job.status == "complete":
            return job
        if self.route.engine == "cloud":
            now = asyncio.get_running_loop().time()
            began = self._submitted.get(job.job_id, now)
            async with self._in_time(began, f"the job {job.job_id}"):
                return await self.api.wait(job, max_retries=max_retries)
        running = self._running.get(job.job_id)
        if running is None:
            raise ProtocolError(f"this engine has no job {job.job_id}.", stage="separate")
        limit = None if max_retries is None else max_retries * _POLL_SLICE_S
        try:
            async with asyncio.timeout(limit):
                stems = await asyncio.shield(running)
        except TimeoutError as error:
            raise DeadlineMissed(
                f"the job {job.job_id} was not complete within {limit:.0f} s.", stage="separate"
            ) from error
        return SeparationJob(job_id=job.job_id, status="complete", stems=stems)

    async def download(self, job: SeparationJob, folder: Path) -> dict[str, Path]:
        """Bring a complete job's stems into `folder`; local ones are there already.

        Raises:
            ProtocolError: The job isn't complete, or a stem isn't sound audio.
            Others: As `SeparationApi.download`.
        """
        if job.status != "complete" or not job.stems:
            raise ProtocolError(f"the job {job.job_id} has no stems yet.", stage="separate")
        if self.route.engine != "cloud":
            return {name: Path(path) for name, path in job.stems.items()}
        names = [_plain(name) for name in job.stems]
        paths = await asyncio.gather(
            *(
                self.api.download(url, folder / f"{name}{_suffix(url)}", Download())
                for name, url in zip(names, job.stems.values(), strict=True)
            )
        )
        return dict(zip(names, paths, strict=True))

    async def close(self) -> None:
        """Stop local separations between segments, let go of the model and the connections."""
        self._stop.set()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._worker.shutdown(wait=False)
        if self._engine:
            await asyncio.to_thread(self._engine.close)
        await self.api.close()

    async def __aenter__(self) -> StemSeparationEngine:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @asynccontextmanager
    async def _in_time(self, began: float, what: str) -> AsyncIterator[None]:
        until = None if self._deadline_s is None else began + self._deadline_s
        try:
            async with asyncio.timeout_at(until):
                yield
        except TimeoutError as error:
            raise DeadlineMissed(
                f"{what} was not complete within {self._deadline_s:g} s of its submit.",
                stage="separate",
            ) from error

    async def _local(self) -> tuple[Engine, int]:
        """Return this machine's engine and its model's sample rate, in Hz."""
        async with self._loading:
            if self._engine is None or self._spec is None:
                self._spec = await asyncio.to_thread(self._options.find_model)
                self._engine, _ = make_engine(self._options, self.route.alone, spec=self._spec)
            return self._engine, self._spec.sample_rate_hz

    def _separate(
        self, engine: Engine, path: Path, folder: Path, settings: SeparationSettings
    ) -> dict[str, str]:
        with tempfile.TemporaryDirectory(prefix="stemwright-") as scratch:
            mixture = (self._prepare or self._normalize)(path, Path(scratch))
            stem_set = engine.separate(
                SeparationRequest(
                    mixture,
                    folder,
                    settings,
                    deadline_s=self._deadline_s,
                    callbacks=Callbacks(stopping=self._stop.is_set),
                )
            )
        return {name: str(stem) for name, stem in stem_set.stems.items()}

    def _normalize(self, path: Path, folder: Path) -> Mixture:
        from tasks.normalize import normalize

        assert self._spec is not None
        source = SourceAudio(
            ref=TrackRef(source=str(path), kind="file"),
            path=path,
            in_scratch=False,
            bytes=path.stat().st_size,
        )
        # Floats hold whatever there is, so that a file at the model's rate stays as it is.
        rate_hz = self._spec.sample_rate_hz
        policy = AudioPolicy(
            sample_rate_hz=rate_hz,
            bit_depth="32f",
            min_duration_s=0.0,
            max_duration_s=_ANY_LENGTH_S,
        )
        return normalize(source, folder, policy)

    def _folder_for(self, path: Path) -> Path:
        # Two files of one name from different folders must not overwrite each other's stems.
        path = path.absolute()
        base = (self._output_dir or path.parent) / f"{path.stem}_stems"
        folder, copy = base, 1
        while self._folders.setdefault(folder, path) != path:
            copy += 1
            folder = base.with_name(f"{base.name}-{copy}")
        return folder


def _policy(max_retries: int, multiplier: float, longest_s: float) -> RetryPolicy:
    try:
        return RetryPolicy(
            max_retries=max_retries,
            backoff_multiplier=multiplier,
            max_backoff_seconds=longest_s,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SettingsError(f"engine.{first['loc'][0]}: {first['msg']}.") from error


def _format(source: AudioSource) -> str:
    if source.format not in ("wav", "flac"):
        raise SettingsError(f"stems come as wav or flac, not as {source.format!r}.")
    return source.format


def _plain(name: str) -> str:
    # A stem's name becomes a file's name, and comes from the wire.
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ProtocolError(f"the service names a stem {name[:80]!r}.", stage="separate")
    return name


def _suffix(url: str) -> str:
    suffix = Path(httpx.URL(url).path).suffix.lower()
    return suffix if suffix in (".wav", ".flac") else ".wav"
