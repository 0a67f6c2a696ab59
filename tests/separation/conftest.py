"""Tiny real models, short real mixtures, and nothing of the machine's own model folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from tasks.contracts import SAMPLE_RATE_HZ, Mixture, SourceFormat, TrackRef
from tasks.separation.models import ModelSpec, find_model
from tests.tiny_model import make_tiny_model

MixtureMaker = Callable[..., Mixture]


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.delenv("STEMWRIGHT_MODELS", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home / "hub"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # A tiny network gains nothing from a second one, and on a busy machine they spin.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def tiny(models_dir: Path) -> ModelSpec:
    return find_model("tiny", models_dir=models_dir, offline=True)


@pytest.fixture
def make_mixture(tmp_path: Path) -> MixtureMaker:
    """Write samples, or seeded noise, as a master and describe it; `centred` has no offset."""

    def make(
        samples: NDArray[np.float32] | None = None,
        *,
        seconds: float = 1.0,
        level: float = 0.1,
        rate: int = SAMPLE_RATE_HZ,
        name: str = "song",
        centred: bool = False,
    ) -> Mixture:
        if samples is None:
            draw = np.random.default_rng(7)
            samples = draw.normal(0, level, (2, int(seconds * rate))).astype(np.float32)
            if centred:
                samples -= samples.mean()
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, samples.T, rate, subtype="FLOAT")
        peak = float(np.abs(samples).max())
        return Mixture(
            ref=TrackRef(source=str(path), kind="file", artist="Ensemble", title=name),
            track_id="0123456789abcdef",
            path=path,
            sample_rate_hz=rate,
            channels=samples.shape[0],
            frames=samples.shape[1],
            bit_depth="32f",
            peak=peak,
            silent=peak == 0,
            source=SourceFormat(
                container="wav", codec="float", sample_rate_hz=rate, channels=2, lossy=False
            ),
        )

    return make
