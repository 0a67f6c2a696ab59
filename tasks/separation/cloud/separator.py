"""The cloud with the face of `LocalSeparator`: one mixture in, one `StemSet` out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import httpx
from pydantic import SecretStr

from tasks.contracts import STEMS, Mixture, Progress, SeparationSettings, StemSet, Value
from tasks.errors import ContractBroken, StemwrightError
from tasks.separation.cloud.client import SeparationApi
from tasks.separation.cloud.downloads import Download
from tasks.separation.cloud.retries import RetryPolicy
from tasks.separation.deadline import Watch
from tasks.separation.identity import separation_id
from tasks.separation.models.registry import KNOWN_MODELS
from tasks.separation.stem_choice import kept_stems
from tasks.separation.stem_files import check_format

logger = logging.getLogger(__name__)
_UPLOADED, _SEPARATED = 0.2, 0.8


class RemoteModel(Value):
    """A model that a service holds: its name and stems; its weights are the service's."""

    name: str
    sources: tuple[str, ...]
    weights_sha256: str = ""


class CloudSeparator:
    """Separates tracks through a service. Safe to call from several threads at once.

    Each call runs an event loop of its own in the calling thread, which must not have one.

    Args:
        model: The service's name of the model.
        base_url: The service.
        api_key: Its key.
        sources: The model's stems; by default those of the known model, else the usual four.
        provider: What the report calls the service.
        policy: When to ask again.
        reasons: Why the cloud, for the report.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: SecretStr | str = "",
        sources: tuple[str, ...] | None = None,
        provider: str = "stemwright",
        policy: RetryPolicy | None = None,
        log_retries: bool = True,
        reasons: tuple[str, ...] = (),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        known = KNOWN_MODELS.get(model)
        self.spec = RemoteModel(name=model, sources=sources or (known.stems if known else STEMS))
        self.base_url = base_url
        self.provider = provider
        self._key = api_key if isinstance(api_key, SecretStr) else SecretStr(api_key)
        self._policy = policy
        self._log_retries = log_retries
        self._reasons = reasons
        self._transport = transport

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name!r}, base_url={self.base_url!r})"

    def separation_id(self, settings: SeparationSettings) -> str:
        """The identity that a separation with these settings has."""
        return separation_id(self.spec, settings, provider=self.provider, base_url=self.base_url)

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

        Stems that the service leaves out of a complete job, and stems that aren't the audio that
        they must be, are left out of the answer: validation sees what is missing. `gain` is what
        the stems on disk have; the service's are taken as they come.

        Raises:
            KeyRejected, SourceRefused, NotAudio, ContractBroken, RateLimited, ServiceFault,
            NetworkFault, DeadlineMissed, Interrupted, DiskFull, SettingsError.
        """
        kept = kept_stems(self.spec.name, self.spec.sources, settings.stems)
        check_format(settings.format, settings.bit_depth)
        wanted = tuple(name for name in kept if only is None or name in only)
        watch = Watch(mixture.ref.label, deadline_s, stop)
        tell = progress or (lambda _: None)
        try:
            stems = asyncio.run(self._stems(mixture, folder, settings, wanted, watch, tell))
        except StemwrightError as error:
            raise error.about(track=mixture.ref.label, stage="separate") from error.__cause__
        return StemSet(
            track_id=mixture.track_id,
            separation_id=self.separation_id(settings),
            model=self.spec.name,
            weights_sha256=self.spec.weights_sha256,
            expected=kept,
            stems=stems,
            all_stems=len(kept) == len(self.spec.sources),
            sample_rate_hz=mixture.sample_rate_hz,
            channels=mixture.channels,
            frames=mixture.frames,
            gain=1.0 if gain is None else gain,
            engine="cloud",
            provider=self.provider,
            device="",
            device_reasons=self._reasons,
            stem_origins=dict.fromkeys(stems, self.provider),
            separation_s=watch.elapsed_s,
        )

    def close(self) -> None:
        """Nothing is held between tracks."""

    async def _stems(
        self,
        mixture: Mixture,
        folder: Path,
        settings: SeparationSettings,
        wanted: tuple[str, ...],
        watch: Watch,
        progress: Progress,
    ) -> dict[str, Path]:
        whole = wanted == STEMS
        async with SeparationApi(
            self.base_url,
            self._key,
            policy=self._policy,
            log_retries=self._log_retries,
            transport=self._transport,
        ) as api:
            job = await api.submit(
                mixture.path,
                stems="4" if whole else ",".join(wanted),
                format=settings.format,
                model=self.spec.name,
                watch=watch,
            )
            progress(_UPLOADED)
            job = await api.wait(job, watch=watch)
            progress(_SEPARATED)
            urls = {name: (job.stems or {}).get(name) for name in wanted}
            expected = Download(
                format=settings.format,
                sample_rate_hz=mixture.sample_rate_hz,
                channels=mixture.channels,
                frames=mixture.frames,
            )
            found = await asyncio.gather(
                *(
                    self._stem(api, url, folder / f"{name}.{settings.format}", expected, watch)
                    for name, url in urls.items()
                )
            )
        stems = {name: path for name, path in zip(wanted, found, strict=True) if path}
        progress(1.0)
        return stems

    async def _stem(
        self, api: SeparationApi, url: str | None, path: Path, expected: Download, watch: Watch
    ) -> Path | None:
        if not url:
            logger.warning("the service's complete job lacks the stem %s", path.stem)
            return None
        try:
            return await api.download(url, path, expected, watch=watch)
        except ContractBroken as error:
            logger.warning("the stem %s doesn't count: %s", path.stem, error.cause)
            return None
