"""A model family is one class: here it stands in a test, and a whole run goes through it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from typer.testing import CliRunner

from flows.cli import app
from tasks.contracts import CHANNELS, SAMPLE_RATE_HZ, LocalOptions, SeparationSettings
from tasks.errors import WeightsMissing
from tasks.separation import find_model, list_models
from tasks.separation.mixture_reader import MixtureReader
from tasks.separation.models.digests import sha256_of
from tasks.separation.models.family import Located, ModelFamily, OnProgress
from tasks.separation.models.spec import KnownModel, ModelSpec
from tasks.separation.on_device import DeviceSeparator
from tests.flows.studio import run_catalog, write_config, write_track

STEMS = ("bass", "other")
FILE = "crossover.npy"


class Crossover(DeviceSeparator):
    """Splits at the corner of a fixed filter: what passes is the bass, and the rest the other."""

    precision = "fp32"

    def _stream(
        self,
        reader: MixtureReader,
        stems: list[str],
        settings: SeparationSettings,
        write: Callable[[NDArray[np.float32]], None],
        on_share: Callable[[float], None],
    ) -> None:
        on_share(0.0)
        taps = np.load(self.spec.weights[0])
        wave = reader.samples(0, reader.frames).numpy()
        low = np.stack([np.convolve(channel, taps, "same") for channel in wave])
        bands = {"bass": low, "other": wave - low}
        write(np.stack([bands[name] for name in stems]).astype(np.float32))

    def _forget(self) -> None: ...


class CrossoverFamily(ModelFamily):
    """One model, whose weights are the taps of a low-pass."""

    name: ClassVar[str] = "crossover"
    known: ClassVar[Mapping[str, KnownModel]] = {
        "crossover": KnownModel("crossover", "Two bands.", STEMS, licence="MIT")
    }

    def locate(self, name: str, folder: Path | None) -> Located | None:
        if name not in self.known:
            return None
        file = folder / FILE if folder else None
        here = (file,) if file and file.is_file() else ()
        return Located(here, () if here else (FILE,), "folder", stuck="nobody publishes it")

    def describe(self, name: str, located: Located) -> ModelSpec:
        return ModelSpec(
            name=name,
            family=self.name,
            sources=STEMS,
            sample_rate_hz=SAMPLE_RATE_HZ,
            channels=CHANNELS,
            segment_s=1.0,
            weights=located.files,
            weights_sha256=sha256_of(located.files[0]),
            origin=located.origin,
        )

    def fetch(self, name: str, located: Located, on_progress: OnProgress) -> None:
        raise NotImplementedError

    def make_engine(
        self, spec: ModelSpec, *, device: str, options: LocalOptions | None = None, **common: Any
    ) -> DeviceSeparator:
        return Crossover(spec, device=device, **common)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A models folder with the taps of a low-pass at 500 Hz."""
    folder = tmp_path / "models"
    folder.mkdir()
    n = np.arange(-200, 201)
    taps = np.sinc(n * 1000 / SAMPLE_RATE_HZ) * np.hanning(len(n))
    np.save(folder / FILE, taps / taps.sum())
    return folder


@pytest.mark.usefixtures("prefect_server")
def test_a_run_goes_through_it(tmp_path: Path, weights: Path) -> None:
    config = write_config(tmp_path / "c.yaml", weights, separation={"model": "crossover"})
    source = write_track(tmp_path / "song.flac")
    ran = run_catalog([source], tmp_path / "library", config)
    assert (ran.summary.done, ran.summary.failed) == (1, 0)
    made = ran.report("song.flac").stem_set
    assert (made.model, made.engine, made.precision) == ("crossover", "local_cpu", "fp32")
    assert made.separation_id.startswith("crossover-")
    assert made.weights_sha256 == sha256_of(weights / FILE)
    folder = next((tmp_path / "library").glob("tracks/*/crossover-*"))
    mixture, bass, other = (
        soundfile.read(folder / f"{name}.flac")[0] for name in ("mixture", *STEMS)
    )
    assert np.abs(bass + other - mixture).max() < 1e-4
    low, high = (
        np.abs(np.diff(wave, axis=0)).mean() / np.abs(wave).mean() for wave in (bass, other)
    )
    assert low < high / 2

    again = run_catalog([source], tmp_path / "library", config)
    assert (again.summary.done, again.summary.already) == (0, 1)


def test_listings_and_errors_know_it(tmp_path: Path, weights: Path) -> None:
    entry = next(one for one in list_models(weights) if one.name == "crossover")
    assert (entry.family, entry.present, entry.where) == ("crossover", True, str(weights))
    with pytest.raises(WeightsMissing, match=r"\(nobody publishes it\): crossover\.npy"):
        find_model("crossover", models_dir=tmp_path)
    shown = CliRunner().invoke(
        app, ["models", "verify", "crossover", "--models-dir", str(weights), "--json"]
    )
    assert json.loads(shown.stdout)["models"][0]["files"] == {
        str(weights / FILE): sha256_of(weights / FILE)
    }
