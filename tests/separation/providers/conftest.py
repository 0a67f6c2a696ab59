"""One short track, and a service at hand to have it separated by, through the real client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import SecretStr

from tasks.contracts import (
    SAMPLE_RATE_HZ,
    STEMS,
    Mixture,
    SeparationSettings,
    SourceFormat,
    StemFormat,
    StemSet,
    TrackRef,
)
from tasks.net.retries import RetryPolicy
from tasks.separation import CloudEngine
from tasks.separation.cloud.jobs import ProviderRequest
from tasks.separation.cloud.providers import make_provider
from tasks.separation.cloud.providers.base import CloudProvider
from tasks.separation.request import Callbacks, SeparationRequest
from tests.separation.providers.upstream import KEY

# The waits are real, so the longest is a few milliseconds.
HASTY = RetryPolicy(max_retries=8, max_backoff_seconds=0.004)
FRAMES = SAMPLE_RATE_HZ // 4


@dataclass(frozen=True)
class Case:
    """A track, a service, and settings; each `with_…` gives another case."""

    mixture: Mixture
    folder: Path
    name: str = ""
    base_url: str = ""
    key: str = KEY
    options: Mapping[str, str] = field(default_factory=dict)
    format: StemFormat = "flac"

    def at(self, name: str, base_url: str) -> Case:
        return replace(self, name=name, base_url=base_url)

    def with_key(self, key: str) -> Case:
        return replace(self, key=key)

    def with_options(self, options: Mapping[str, str]) -> Case:
        return replace(self, options=options)

    def in_format(self, format: StemFormat) -> Case:
        return replace(self, format=format)

    @property
    def provider(self) -> CloudProvider:
        return make_provider(
            self.name, base_url=self.base_url, api_key=SecretStr(self.key), options=self.options
        )

    def separate(
        self,
        *,
        model: str = "htdemucs",
        format: StemFormat | None = None,
        only: frozenset[str] = frozenset(),
        settle: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> StemSet:
        settings = SeparationSettings(model=model, format=format or self.format)
        separator = CloudEngine(model, provider=self.provider, policy=HASTY)
        try:
            found = separator.separate(
                SeparationRequest(
                    self.mixture,
                    self.folder,
                    settings,
                    only=only,
                    callbacks=Callbacks(stopping=stop),
                )
            )
            if settle:
                separator.release(self.mixture.track_id)
            return found
        finally:
            separator.close()

    def request(self, duration_s: float, model: str = "htdemucs") -> ProviderRequest:
        return ProviderRequest(
            path=self.mixture.path,
            stems=STEMS,
            model=model,
            format=self.format,
            duration_s=duration_s,
            idempotency_key="a key",
        )

    def check(self, duration_s: float, model: str = "htdemucs") -> None:
        self.provider.check(self.request(duration_s, model))

    def price_usd(self, duration_s: float) -> float:
        return self.provider.price_usd(self.request(duration_s))

    def shares(self, found: StemSet) -> dict[str, float]:
        """What share of the mixture each stem is, sample by sample."""
        whole = soundfile.read(self.mixture.path)[0]
        shares = {}
        for name, path in found.stems.items():
            samples = soundfile.read(path)[0]
            share = round(float(np.vdot(samples, whole) / np.vdot(whole, whole)), 4)
            assert np.abs(samples - share * whole).max() < 2**-22
            shares[name] = share
        return shares


@pytest.fixture
def case(tmp_path: Path) -> Case:
    path = tmp_path / "mixture.flac"
    samples = np.random.default_rng(7).normal(0, 0.1, (FRAMES, 2))
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_24")
    mixture = Mixture(
        ref=TrackRef(source=str(path), kind="file", artist="Ensemble", title="song"),
        track_id="0123456789abcdef",
        path=path,
        sample_rate_hz=SAMPLE_RATE_HZ,
        channels=2,
        frames=FRAMES,
        bit_depth="24",
        peak=float(np.abs(samples).max()),
        silent=False,
        source=SourceFormat(
            container="flac",
            codec="flac",
            sample_rate_hz=SAMPLE_RATE_HZ,
            channels=2,
            bit_depth="24",
            lossy=False,
        ),
    )
    return Case(mixture, tmp_path / "stems")
