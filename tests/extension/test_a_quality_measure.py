"""Another quality measure costs one class: this one, with a column in each of two tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import soundfile

from tasks.quality import score_separation
from tasks.quality.measure import Measure, Measured, register, unregister
from tasks.quality.spectra import Block
from tests.flows.studio import finished_in, report_in, run_catalog, write_config, write_track
from tests.tiny_model import make_tiny_model


class ZeroCrossings(Measure):
    """How often a second the middle changes its sign."""

    name = "zero_crossings"
    stem_columns: ClassVar = {"zero_crossings_hz": float}
    track_columns: ClassVar = {"mixture_zero_crossings_hz": float}

    def __init__(self, stems: int) -> None:
        self._crossings = np.zeros(1 + stems)
        self._seconds = 0.0

    def update(self, block: Block) -> None:
        self._crossings += (np.diff(np.signbit(block.mono), axis=1)).sum(axis=1)
        self._seconds = block.end_s

    def result(self) -> Measured:
        mixture, *stems = self._crossings / self._seconds
        return Measured(
            track={"mixture_zero_crossings_hz": mixture},
            stems={"zero_crossings_hz": np.array(stems)},
        )


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register(ZeroCrossings)
    yield
    unregister(ZeroCrossings)


def test_it_is_taken_of_stems_and_mixture(tmp_path: Path) -> None:
    rate = 44_100
    for name, hz in (("mixture", 100), ("bass", 100), ("other", 1000)):
        tone = 0.3 * np.sin(2 * np.pi * hz * (np.arange(2 * rate) + 0.5) / rate)
        soundfile.write(tmp_path / f"{name}.wav", np.stack([tone, tone], axis=1), rate)
    stems = {name: tmp_path / f"{name}.wav" for name in ("bass", "other")}
    found = score_separation(tmp_path / "mixture.wav", stems)
    assert found.measures["mixture_zero_crossings_hz"] == pytest.approx(200, abs=2)
    measured = {name: stem.measures["zero_crossings_hz"] for name, stem in found.stems.items()}
    assert measured == pytest.approx({"bass": 200, "other": 2000}, abs=2)


@pytest.mark.usefixtures("prefect_server")
def test_its_columns_are_in_the_tables_of_a_whole_run(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    config = write_config(tmp_path / "stemwright.yaml", make_tiny_model(tmp_path / "models"))
    library = tmp_path / "library"
    ran = run_catalog([write_track(tmp_path / "in/song.flac")], library, config)
    assert (ran.summary.done, ran.summary.failures) == (1, [])
    (folder,) = finished_in(library)
    quality = report_in(library / folder).quality
    tracks = pd.read_parquet(library / "reports/tracks")
    assert tracks["mixture_zero_crossings_hz"].tolist() == [
        quality.measures["mixture_zero_crossings_hz"]
    ]
    stems = pd.read_parquet(library / "reports/stems").set_index("stem")["zero_crossings_hz"]
    assert stems.to_dict() == {
        name: stem.measures["zero_crossings_hz"] for name, stem in quality.stems.items()
    }
    assert (stems > 0).all()


def test_it_is_gone_with_its_columns(tmp_path: Path) -> None:
    from tasks.columns import columns_of
    from tasks.quality.measure import registered as measures

    assert ZeroCrossings in measures()
    assert "zero_crossings_hz" in {column.name for column in columns_of("stems")}
    unregister(ZeroCrossings)
    assert ZeroCrossings not in measures()
    assert "zero_crossings_hz" not in {column.name for column in columns_of("stems")}
