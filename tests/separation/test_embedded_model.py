"""The embedded model and the bundled pieces keep what their cards promise."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.benchmarks.embedded_model import (
    BUNDLED,
    EMBEDDED,
    STEMS,
    PieceScore,
    bundled_pieces,
    embedded_model,
    score_piece,
    untrained_control,
)

EXCERPT_SECONDS = 10.0
PROMISED_GAIN_DB = 5.0


@pytest.fixture(scope="module")
def scores() -> Iterator[list[PieceScore]]:
    """Both networks on the middle of every bundled piece."""
    threads = torch.get_num_threads()
    # OpenMP's threads spin while they wait: on a busy machine one thread is the fastest.
    torch.set_num_threads(1)
    model = embedded_model()
    control = untrained_control(model)
    yield [score_piece(folder, model, control, EXCERPT_SECONDS) for folder in bundled_pieces()]
    torch.set_num_threads(threads)


@pytest.mark.parametrize("index", range(len(STEMS)), ids=STEMS)
def test_each_stem_gains_what_the_card_promises(scores: list[PieceScore], index: int) -> None:
    gain = float(np.mean([score.gain[index] for score in scores]))
    assert gain >= PROMISED_GAIN_DB


@pytest.mark.parametrize("index", range(len(STEMS)), ids=STEMS)
def test_the_gain_comes_from_training(scores: list[PieceScore], index: int) -> None:
    control = float(np.mean([score.control[index] for score in scores]))
    trained = float(np.mean([score.model[index] for score in scores]))
    assert trained > control + PROMISED_GAIN_DB


def test_the_model_says_what_demucs_needs() -> None:
    model = embedded_model()
    assert tuple(model.sources) == STEMS
    assert (model.samplerate, model.audio_channels) == (44_100, 2)
    assert sum(p.numel() for p in model.parameters()) <= 3_000_000
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) <= 12_000_000


@pytest.mark.parametrize("folder", bundled_pieces(), ids=lambda folder: folder.name)
def test_a_mixture_is_the_sum_of_its_stems(folder: Path) -> None:
    mixture, rate = soundfile.read(folder / "mixture.flac", dtype="int16")
    stems = [soundfile.read(folder / f"{stem}.flac", dtype="int16")[0] for stem in STEMS]
    assert (rate, mixture.shape[1]) == (44_100, 2)
    assert all(np.abs(stem.astype(int)).max() > 1000 for stem in stems)
    np.testing.assert_array_equal(mixture, np.sum(stems, axis=0, dtype=np.int64))


def test_the_catalog_lists_every_piece_and_the_licence_is_there() -> None:
    with (BUNDLED / "catalog.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    listed = {BUNDLED / row["source"] for row in rows}
    assert listed == {folder / "mixture.flac" for folder in bundled_pieces()}
    assert len(rows) == 4
    assert "CC0" in (BUNDLED / "LICENSE.md").read_text()
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) < 25_000_000
