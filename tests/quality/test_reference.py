"""Stems against the true ones: SI-SDR by its formula, SDR as museval's own whole-track run."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tasks.errors import CorruptAudio, IncompleteSeparation, SettingsError, SourceMissing
from tasks.quality import reference
from tasks.quality.reference import agreement, compare, museval_metrics, si_sdr_db, si_sdrs_db

RATE = 8_000
NAMES = ("drums", "bass", "vocals")


def noise(seed: int, seconds: float = 5, channels: int = 2) -> np.ndarray:
    shape = (int(seconds * RATE), channels)
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def write(folder: Path, stems: dict[str, np.ndarray], rate: int = RATE) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.wav" for name in stems}
    for name, samples in stems.items():
        soundfile.write(paths[name], samples, rate, subtype="FLOAT")
    return paths


@pytest.fixture
def true() -> dict[str, np.ndarray]:
    return {name: noise(at) for at, name in enumerate(NAMES)}


@pytest.fixture
def made(true: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each with some of the next one in it, at another level, and noise that comes and goes."""
    swell = np.linspace(0, 0.5, len(true["bass"]), dtype=np.float32)[:, None]
    return {
        name: 0.8 * true[name] + 0.2 * true[NAMES[at - 1]] + swell * noise(10 + at)
        for at, name in enumerate(NAMES)
    }


# --- SI-SDR -------------------------------------------------------------------------------------


def test_si_sdr_is_le_roux_s_formula() -> None:
    s, e = noise(1, channels=1).ravel(), noise(2, channels=1).ravel()
    e = 0.7 * s + 0.3 * e
    scaled = (e @ s) / (s @ s) * s
    by_hand = 10 * np.log10((scaled @ scaled) / ((scaled - e) @ (scaled - e)))
    assert si_sdr_db(s, e) == pytest.approx(by_hand, abs=1e-4)


def test_noise_at_a_tenth_of_the_energy_is_ten_decibels() -> None:
    s = np.array([1.0, 0.0, 1.0, 0.0])
    e = s + np.sqrt(0.1) * np.array([0.0, 1.0, 0.0, 1.0])
    assert si_sdr_db(s, e) == pytest.approx(10.0)


def test_no_scale_or_sign_changes_it() -> None:
    s, e = noise(1), noise(1) + 0.5 * noise(2)
    assert si_sdr_db(s, -17 * e) == pytest.approx(si_sdr_db(s, e))


def test_channels_share_one_scale() -> None:
    s = noise(1)
    one_side = s * np.array([1.0, 0.5], dtype=np.float32)
    assert 8 < si_sdr_db(s, one_side) < 12
    assert si_sdr_db(s, 0.5 * s) > 60


def test_the_ends_of_the_scale() -> None:
    s = noise(1)
    assert si_sdr_db(s, 2 * s) == math.inf
    assert si_sdr_db(s, np.zeros_like(s)) == -math.inf
    assert si_sdr_db(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == -math.inf
    assert math.isnan(si_sdr_db(np.zeros_like(s), s))
    with pytest.raises(ValueError, match="shapes differ"):
        si_sdr_db(s, s[:-1])


# --- whole tracks ---------------------------------------------------------------------------------


def whole_track_sdr(
    true: dict[str, np.ndarray], made: dict[str, np.ndarray], taps: int = 64
) -> np.ndarray:
    """museval on the whole track at once, as its `evaluate` calls it (there with 512 taps)."""
    sdr: np.ndarray = museval_metrics().bss_eval(
        np.array([true[name] for name in true]),
        np.array([made[name] for name in true]),
        window=RATE,
        hop=RATE,
        compute_permutation=False,
        filters_len=taps,
        framewise_filters=False,
        bsseval_sources_version=False,
    )[0]
    return sdr


def test_sdr_is_museval_s_of_the_whole_track(
    true: dict[str, np.ndarray],
    made: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reference, "PIECE_S", 2)
    found = compare(write(tmp_path / "true", true), write(tmp_path / "made", made))
    expected = np.median(whole_track_sdr(true, made, taps=512), axis=1)
    assert [found[name].sdr_db for name in NAMES] == pytest.approx(list(expected), abs=1e-6)
    assert [found[name].frames for name in NAMES] == [5, 5, 5]
    for name in NAMES:
        assert found[name].si_sdr_db == pytest.approx(si_sdr_db(true[name], made[name]), abs=1e-6)


def test_si_sdr_alone_is_the_same_and_knows_no_silence(
    true: dict[str, np.ndarray], made: dict[str, np.ndarray], tmp_path: Path
) -> None:
    true["drums"][:], made["vocals"][:] = 0, 0
    found = si_sdrs_db(write(tmp_path / "true", true), write(tmp_path / "made", made))
    expected = pytest.approx(si_sdr_db(true["bass"], made["bass"]), abs=1e-6)
    assert found == {"drums": None, "bass": expected, "vocals": None}


def test_seconds_in_which_a_stem_is_silent_don_t_count_as_in_museval(
    true: dict[str, np.ndarray],
    made: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a whole piece is silent, which museval alone would refuse."""
    monkeypatch.setattr(reference, "PIECE_S", 2)
    true["vocals"][: 3 * RATE] = 0
    found = compare(write(tmp_path / "true", true), write(tmp_path / "made", made))
    whole = whole_track_sdr(true, made)
    assert np.isnan(whole[:, :3]).all()
    assert found["bass"].frames == 2
    assert found["bass"].sdr_db == pytest.approx(float(np.median(whole[1, 3:])), abs=1e-6)


def test_a_silent_stem_is_skipped_and_spoils_no_other(
    true: dict[str, np.ndarray], made: dict[str, np.ndarray], tmp_path: Path
) -> None:
    true["vocals"][:] = 0
    found = compare(write(tmp_path / "true", true), write(tmp_path / "made", made))
    silent = found["vocals"]
    assert (silent.silent, silent.si_sdr_db, silent.sdr_db) == (True, None, None)
    heard = {name: true[name] for name in NAMES[:2]}
    expected = np.median(whole_track_sdr(heard, made), axis=1)
    assert [found[name].sdr_db for name in heard] == pytest.approx(list(expected), abs=1e-6)


def test_an_empty_estimate_has_no_sdr(
    true: dict[str, np.ndarray], made: dict[str, np.ndarray], tmp_path: Path
) -> None:
    made["drums"][:] = 0
    found = compare(write(tmp_path / "true", true), write(tmp_path / "made", made))
    assert (found["drums"].si_sdr_db, found["drums"].sdr_db) == (None, None)
    assert not found["drums"].silent
    assert found["bass"].frames == 5


def test_two_equal_channels_are_no_trouble(
    true: dict[str, np.ndarray], made: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """museval 0.4.1 names an exception that newer numpys lack when its equations are singular."""
    true["vocals"][:] = true["vocals"][:, :1]
    found = compare(write(tmp_path / "true", true), write(tmp_path / "made", made))
    second = slice(0, RATE)
    s, e = true["vocals"][second].astype(float), made["vocals"][second].astype(float)
    first = 10 * np.log10((s**2).sum() / ((e - s) ** 2).sum())
    sdr = found["vocals"].sdr_db
    assert sdr is not None
    assert sdr < first  # the noise grows
    assert found["vocals"].frames == 5


def test_gains_are_undone(
    true: dict[str, np.ndarray], made: dict[str, np.ndarray], tmp_path: Path
) -> None:
    plain = compare(write(tmp_path / "true", true), write(tmp_path / "made", made))
    quiet = {name: 0.25 * samples for name, samples in made.items()}
    halved = true | {"bass": 0.5 * true["bass"]}
    same = compare(
        write(tmp_path / "halved", halved),
        write(tmp_path / "quiet", quiet),
        gain=0.25,
        reference_gains={"bass": 0.5},
    )
    for name in NAMES:
        assert same[name].sdr_db == pytest.approx(plain[name].sdr_db, abs=1e-4)


def test_what_can_t_be_compared(
    true: dict[str, np.ndarray], made: dict[str, np.ndarray], tmp_path: Path
) -> None:
    files, others = write(tmp_path / "true", true), write(tmp_path / "made", made)
    with pytest.raises(IncompleteSeparation, match="no reference stem"):
        compare(files, {"kazoo": others["bass"]})
    short = write(tmp_path / "short", {"bass": made["bass"][:-1]})
    with pytest.raises(IncompleteSeparation, match=r"bass\.wav has 39,999 frames"):
        compare(files, short)
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(CorruptAudio, match=r"text\.wav"):
        compare(files, {"bass": tmp_path / "text.wav"})
    with pytest.raises(SourceMissing):
        compare(files, {"bass": tmp_path / "nowhere.wav"})


# --- museval --------------------------------------------------------------------------------------


def test_museval_needs_no_ffmpeg_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    museval_metrics.cache_clear()
    assert callable(museval_metrics().bss_eval)
    assert "stempeg" not in sys.modules


def test_without_museval_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    museval_metrics.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="museval isn't installed") as caught:
        museval_metrics()
    assert "stemwright[evaluate]" in caught.value.remedy
    museval_metrics.cache_clear()


# --- agreement ------------------------------------------------------------------------------------


def test_agreement_of_estimates_with_the_truth() -> None:
    true = [2.0, 4.0, 6.0, 8.0, math.inf]
    estimated = [3.0, 4.0, 9.0, 8.5, 5.0]
    intervals = [(1.0, 4.0), (3.0, 5.0), (8.0, 10.0), (None, None), (0.0, 9.0)]
    found = agreement(estimated, true, intervals)
    assert found.count == 4
    assert found.spearman == pytest.approx(0.8)
    assert found.mae_db == pytest.approx((1 + 0 + 3 + 0.5) / 4)
    assert found.bias_db == pytest.approx(0.75)
    assert found.coverage == pytest.approx(2 / 3)


def test_agreement_of_too_few() -> None:
    assert agreement([], []).count == 0
    one = agreement([1.0], [2.0])
    assert (one.count, one.mae_db, one.spearman, one.coverage) == (1, 1.0, None, None)
    assert agreement([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]).spearman is None
