"""Stems that change places for a passage: found, named and charged; reference stems never are."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.quality.truth import si_sdr
from tests.quality.multitrack import NAMES, RATE, SECONDS, Stems, mixed, reference_stems, score


def exchanged(stems: Stems, one: str, two: str, start_s: float, end_s: float) -> Stems:
    """The two stems in each other's place from one second to another."""
    passage = slice(round(start_s * RATE), round(end_s * RATE))
    first, second = stems[one].copy(), stems[two].copy()
    first[passage], second[passage] = stems[two][passage], stems[one][passage]
    return {**stems, one: first, two: second}


@pytest.fixture(scope="module")
def stems() -> Stems:
    return reference_stems()


@pytest.mark.parametrize("pair", list(combinations(NAMES, 2)), ids="-".join)
def test_a_passage_in_each_other_s_place_is_found_and_charged(
    stems: Stems, tmp_path: Path, pair: tuple[str, str]
) -> None:
    wrong = exchanged(stems, *pair, 6.0, SECONDS)
    report = score(tmp_path, mixed(stems), wrong)
    for stem, other in (pair, pair[::-1]):
        found = report.stems[stem]
        assert f"changed_places_with_{other}" in found.reasons
        assert found.verdict == "fail"
        truth_db = si_sdr(wrong[stem].T, stems[stem].T)
        assert found.estimated_si_sdr_db == pytest.approx(truth_db, abs=2.0)
        spot = next(d for d in found.details if d.code.startswith("changed_places"))
        assert spot.start_s == pytest.approx(6.0, abs=0.8)
        assert spot.end_s == pytest.approx(SECONDS, abs=0.8)
    assert report.verdict == "fail"
    for name in set(NAMES) - set(pair):
        assert report.stems[name].verdict == "pass"


def test_a_passage_in_the_middle_is_where_it_is(stems: Stems, tmp_path: Path) -> None:
    report = score(tmp_path, mixed(stems), exchanged(stems, "bass", "other", 3.0, 6.0))
    spot = next(d for d in report.details if d.code == "changed_places_with_other")
    assert (spot.start_s, spot.end_s) == (pytest.approx(3.0, abs=0.8), pytest.approx(6.0, abs=0.8))


def test_it_is_seen_without_the_other_stems(stems: Stems, tmp_path: Path) -> None:
    wrong = exchanged(stems, "drums", "vocals", 0.0, 4.0)
    two = {name: wrong[name] for name in ("drums", "vocals")}
    report = score(tmp_path, mixed(stems), two, all_stems=False)
    assert "changed_places_with_vocals" in report.stems["drums"].reasons


def test_one_song_after_another_is_none(tmp_path: Path) -> None:
    """Where everything changes at once, each stem still sounds more like itself than the other."""
    first, second = reference_stems(6, seed=1), reference_stems(6, seed=2)
    # The second is brighter, and its stems lie elsewhere.
    second = {name: np.diff(audio, axis=0, append=0.0) * 4 for name, audio in second.items()}
    both = {name: np.concatenate([first[name], second[name]]) for name in NAMES}
    report = score(tmp_path, mixed(both), both)
    assert not [code for code in report.reasons if code.startswith("changed_places")]


def test_stems_that_are_alike_or_silent_are_none(stems: Stems, tmp_path: Path) -> None:
    same = {**stems, "vocals": stems["drums"], "other": np.zeros_like(stems["other"])}
    report = score(tmp_path, mixed(stems), same)
    assert not [code for code in report.reasons if code.startswith("changed_places")]
