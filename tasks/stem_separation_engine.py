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
from functools import partial
from pathlib import Path

import httpx
from pydantic import SecretStr, ValidationError

from tasks.contracts import (
    AudioSource,
    Mixture,
    Provider,
    SeparationJob,
    SeparationSettings,
    Workload,
)
from tasks.errors import DeadlineMissed, ProtocolError, SettingsError, SourceMissing
from tasks.separation.cloud import RetryPolicy, SeparationApi
from tasks.separation.cloud.downloads import Download
from tasks.separation.cloud.origins import is_on_loopback
from tasks.separation.hardware import Hardware, detect
from tasks.separation.legs import LocalEngine
from tasks.separation.local_engine import local_engine
from tasks.separation.mixture_reader import prepare as read_with_soundfile
from tasks.separation.models import find_model
from tasks.separation.routing import Route, choose_engine

log = logging.getLogger(__name__)

EXAMPLE_URL = "https://api.example.com/v1"
_MODEL = "htdemucs"
_POLL_SLICE_S = 30.0
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
            default whatever libsndfile reads is resampled.
        transport: The seam for tests and proxies.

    Raises:
        SettingsError: The provider can't be had here, or an option is out of range.
    """

    def __init__(
        self,
        api_key: str | SecretStr = "",
        base_url: str = EXAMPLE_URL,
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
        keyed = bool(key.get_secret_value()) and base_url.rstrip("/") != EXAMPLE_URL
        configured = keyed or is_on_loopback(base_url)
        self.model = model or _MODEL
        # The article's constructor names none: then none is asked for, and the service has its own.
        self._asked_model = model
        self.route = self._choose(provider, workload, configured, auto_detect, offline)
        self.api = SeparationApi(
            base_url,
            key,
            policy=_policy(max_retries, backoff_multiplier, max_backoff_seconds),
            log_retries=log_retries,
            transport=transport,
        )
        self._models_dir = models_dir
        self._offline = offline
        self._output_dir = output_dir
        self._deadline_s = deadline_s
        self._prepare = prepare
        self._make_separator = partial(
            local_engine,
            device=self.route.device.partition(",")[0],  # one file at a time
            reasons=self.route.reasons,
            clear_cache_between_jobs=clear_cache_between_jobs,
            log_vram_usage=log_vram_usage,
        )
        self._separator: LocalEngine | None = None
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
        separator = await self._local()
        if source.sample_rate != separator.spec.sample_rate_hz:
            raise SettingsError(
                f"{self.model} gives stems at {separator.spec.sample_rate_hz} Hz, "
                f"not at {source.sample_rate}."
            )
        settings = SeparationSettings(model=self.model, format=stem_format)
        folder = self._folder_for(source.file_path)
        loop = asyncio.get_running_loop()
        job_id = uuid.uuid4().hex
        self._running[job_id] = loop.run_in_executor(
            self._worker, self._separate, separator, source.file_path, folder, settings
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
        if self._separator:
            await asyncio.to_thread(self._separator.close)
        await self.api.close()

    async def __aenter__(self) -> StemSeparationEngine:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _choose(
        self,
        provider: Provider,
        workload: Workload | None,
        configured: bool,
        auto_detect: bool,
        offline: bool,
    ) -> Route:
        look = provider in ("auto", "local_gpu") and (auto_detect or provider == "local_gpu")
        route = choose_engine(
            provider,
            workload,
            detect() if look else Hardware(),
            cloud_configured=configured,
            auto_detect=auto_detect,
            offline=offline,
        )
        log.info("separating on %s: %s", route.engine, "; ".join(route.reasons))
        if route.warning:
            log.warning(route.warning)
        return route

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

    async def _local(self) -> LocalEngine:
        async with self._loading:
            if self._separator is None:
                spec = await asyncio.to_thread(
                    find_model, self.model, models_dir=self._models_dir, offline=self._offline
                )
                self._separator = self._make_separator(spec)
            return self._separator

    def _separate(
        self,
        separator: LocalEngine,
        path: Path,
        folder: Path,
        settings: SeparationSettings,
    ) -> dict[str, str]:
        with tempfile.TemporaryDirectory(prefix="stemwright-") as scratch:
            spec = separator.spec
            mixture = (
                self._prepare(path, Path(scratch))
                if self._prepare
                else read_with_soundfile(path, Path(scratch), spec.sample_rate_hz, spec.channels)
            )
            stem_set = separator.separate(
                mixture,
                folder,
                settings,
                deadline_s=self._deadline_s,
                stop=self._stop.is_set,
            )
        return {name: str(stem) for name, stem in stem_set.stems.items()}

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
