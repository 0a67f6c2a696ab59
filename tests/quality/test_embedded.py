"""A real, imperfect separator: its stems score under the true ones, in the order of the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from demucs.apply import apply_model
from scipy.stats import spearmanr

from tasks.contracts import QualityReport
from tests.benchmarks.embedded_model import STEMS, bundled_pieces, embedded_model
from tests.benchmarks.quality.truth import si_sdr
from tests.quality.multitrack import score

SECONDS = 8
Judged = tuple[QualityReport, QualityReport, dict[str, float]]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    """For each bundled piece: reports of the reference stems and the model's, the true SI-SDR."""
    torch.set_num_threads(1)
    model, found = embedded_model(), []
    for piece in bundled_pieces():
        true = {name: _middle(piece / f"{name}.flac") for name in STEMS}
        mixture = np.sum(list(true.values()), axis=0)
        with torch.no_grad():
            given = torch.tensor(mixture.T[None], dtype=torch.float32)
            made = apply_model(model, given, shifts=0)[0].numpy().transpose(0, 2, 1)
        stems = dict(zip(STEMS, made.astype(np.float64), strict=True))
        folder = tmp_path_factory.mktemp(piece.name)
        reports = [score(folder, mixture, each) for each in (true, stems)]
        found.append((*reports, {n: si_sdr(stems[n].T, true[n].T) for n in STEMS}))
    return found


def _middle(path: Path) -> np.ndarray:
    audio, rate = sf.read(path, always_2d=True)
    start = (len(audio) - SECONDS * rate) // 2
    return np.asarray(audio[start : start + SECONDS * rate])


def test_reference_stems_pass_and_the_models_score_lower(judged: list[Judged]) -> None:
    for true, made, _ in judged:
        assert true.verdict == "pass", true.reasons
        assert made.verdict != "pass"
        assert (made.score or 0) < (true.score or 0)
        for name in STEMS:
            best, real = true.stems[name], made.stems[name]
            if not (best.absent or real.absent):
                assert (real.estimated_si_sdr_db or 0) < (best.estimated_si_sdr_db or 0)


def test_the_estimate_ranks_with_the_truth(judged: list[Judged]) -> None:
    pairs = [
        (made.stems[name].estimated_si_sdr_db, truth[name])
        for true, made, truth in judged
        for name in STEMS
        if not (made.stems[name].absent or true.stems[name].absent)
    ]
    assert len(pairs) >= 12
    assert spearmanr(*zip(*pairs, strict=True))[0] > 0.5
