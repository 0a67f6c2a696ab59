"""What a score promises: reference stems pass, and each visible kind of damage is named."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile as sf
from pydantic import BaseModel

from tasks.contracts import QualityPolicy, QualityReport, QualityThresholds
from tasks.errors import (
    CorruptAudio,
    EmptyAudio,
    IncompleteSeparation,
    ProtocolError,
    SourceMissing,
)
from tasks.quality import score_separation
from tasks.quality.reasons import CODES
from tests.benchmarks.quality.codec import through_codec as encoded
from tests.benchmarks.quality.truth import si_sdr
from tests.quality.multitrack import NAMES, RATE, Audio, Stems, mixed, reference_stems, score, write


@pytest.fixture(scope="module")
def stems() -> Stems:
    return reference_stems()


@pytest.fixture(scope="module")
def truth(stems: Stems, tmp_path_factory: pytest.TempPathFactory) -> QualityReport:
    return score(tmp_path_factory.mktemp("truth"), mixed(stems), stems)


def numbers(value: object) -> list[float]:
    """Every float in a report, however deep."""
    if isinstance(value, BaseModel):
        return numbers(dict(value))
    if isinstance(value, dict):
        return [n for item in value.values() for n in numbers(item)]
    if isinstance(value, list | tuple):
        return [n for item in value for n in numbers(item)]
    return [value] if isinstance(value, float) else []


# --- reference stems --------------------------------------------------------------------------


def test_reference_stems_pass_with_a_high_score(truth: QualityReport) -> None:
    assert truth.verdict == "pass"
    assert truth.reasons == ()
    assert truth.score is not None
    assert truth.score > 0.85
    assert truth.estimated_si_sdr_db is not None
    assert truth.estimated_si_sdr_db > 12
    assert truth.residual_db is not None
    assert truth.residual_db < -80
    assert set(truth.stems) == set(NAMES)
    assert all(stem.verdict == "pass" for stem in truth.stems.values())


BUNDLED = sorted(
    folder
    for folder in (Path(__file__).parents[2] / "tasks/sources/bundled").iterdir()
    if (folder / "vocals.flac").exists()
)


@pytest.mark.parametrize("folder", BUNDLED, ids=lambda folder: folder.name)
def test_reference_stems_of_the_bundled_music_pass(folder: Path) -> None:
    report = score_separation(
        mixture=folder / "mixture.flac", stems={name: folder / f"{name}.flac" for name in NAMES}
    )
    assert report.verdict == "pass", report.reasons
    assert report.estimated_si_sdr_db is not None
    assert report.estimated_si_sdr_db > 12
    assert "lossy_source" not in {warning.code for warning in report.warnings}


def test_a_mixture_that_a_codec_cut_off_is_warned_of(tmp_path: Path) -> None:
    stems = {name: sf.read(BUNDLED[0] / f"{name}.flac")[0] for name in NAMES}
    lossy = {name: encoded(audio.T, "mp3", 64).T for name, audio in stems.items()}
    report = score(tmp_path, mixed(lossy), lossy)
    assert "lossy_source" in {warning.code for warning in report.warnings}


# --- damage -----------------------------------------------------------------------------------


def vocals_with(change: Callable[[Audio], Audio]) -> Callable[[Stems], Stems]:
    return lambda stems: {**stems, "vocals": change(stems["vocals"])}


def bleed(stems: Stems) -> Stems:
    return {**stems, "vocals": stems["vocals"] + 0.5 * stems["drums"]}


def zero_sum_bleed(stems: Stems) -> Stems:
    moved = 0.5 * stems["drums"]
    return {**stems, "vocals": stems["vocals"] + moved, "drums": stems["drums"] - moved}


def musical_noise(audio: Audio) -> Audio:
    keep = np.random.default_rng(1)
    _, _, spectra = scipy.signal.stft(audio.T, RATE, nperseg=2048)
    spectra *= keep.random(spectra.shape) > 0.4
    return np.asarray(scipy.signal.istft(spectra, RATE, nperseg=2048)[1].T[: len(audio)])


def dropouts(audio: Audio) -> Audio:
    damaged = audio.copy()
    for start in range(RATE // 3, len(audio), RATE):
        damaged[start : start + RATE // 3] = 0
    return damaged


def truncated(audio: Audio) -> Audio:
    damaged = audio.copy()
    damaged[-5 * RATE :] = 0
    return damaged


def brick_wall(audio: Audio, hertz: float = 5000) -> Audio:
    spectrum = np.fft.rfft(audio, axis=0)
    spectrum[int(hertz / RATE * len(audio)) :] = 0
    return np.fft.irfft(spectrum, len(audio), axis=0)


def clipped(audio: Audio) -> Audio:
    return at_most(audio, 0.4)


def mixture_in_every_stem(stems: Stems) -> Stems:
    return {name: mixed(stems) / len(stems) for name in stems}


DAMAGES: list[tuple[str, Callable[[Stems], Stems], str]] = [
    ("bleed", bleed, "bleed_from_drums"),
    ("zero-sum bleed", zero_sum_bleed, "bleed_from_drums"),
    ("zero-sum bleed correlates", zero_sum_bleed, "correlated_with_drums"),
    ("musical noise", vocals_with(musical_noise), "estimated_sdr_low"),
    ("energy lost", vocals_with(musical_noise), "missing_energy"),
    ("gain", vocals_with(lambda a: 0.5 * a), "gain_off"),
    ("polarity", vocals_with(lambda a: -a), "estimated_sdr_low"),
    ("time shift", vocals_with(lambda a: np.roll(a, 200, axis=0)), "estimated_sdr_low"),
    ("dropouts", vocals_with(dropouts), "dropouts"),
    ("cuts", vocals_with(dropouts), "cuts"),
    ("truncation", vocals_with(truncated), "truncated_tail"),
    ("clipping", vocals_with(clipped), "clipping"),
    ("nothing separated", mixture_in_every_stem, "spread_over_stems"),
]


@pytest.mark.parametrize(("damage", "code"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_damage_lowers_the_score_and_is_named(
    stems: Stems,
    truth: QualityReport,
    tmp_path: Path,
    damage: Callable[[Stems], Stems],
    code: str,
) -> None:
    report = score(tmp_path, mixed(stems), damage(stems))
    vocals = report.stems["vocals"]
    assert code in vocals.reasons
    assert code in report.reasons
    assert vocals.verdict != "pass"
    assert report.verdict != "pass"
    assert (vocals.score or 0) < (truth.stems["vocals"].score or 0) - 0.3
    assert (vocals.estimated_si_sdr_db or 0) < (truth.stems["vocals"].estimated_si_sdr_db or 0) - 3
    assert (report.score or 0) < (truth.score or 0)
    assert all(detail.start_s is not None for detail in report.details)


def test_highs_that_are_lost_lower_the_estimate_to_the_truth(stems: Stems, tmp_path: Path) -> None:
    dull = brick_wall(stems["drums"], 8000)
    drums = score(tmp_path, mixed(stems), {**stems, "drums": dull}).stems["drums"]
    assert "lowpass_cliff" in drums.reasons
    assert drums.verdict == "fail"
    assert drums.estimated_si_sdr_db == pytest.approx(si_sdr(dull.T, stems["drums"].T), abs=1)


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.9])
def test_what_dropouts_lost_lowers_the_estimate_to_the_truth(
    stems: Stems, tmp_path: Path, seconds: float
) -> None:
    broken = with_silences(stems["vocals"], seconds)
    report = score(tmp_path, mixed(stems), {**stems, "vocals": broken})
    truth_db = si_sdr(broken.T, stems["vocals"].T)
    assert report.stems["vocals"].estimated_si_sdr_db == pytest.approx(truth_db, abs=0.5)
    assert report.stems["drums"].verdict == "pass"


def test_damage_that_costs_little_is_a_warning(stems: Stems, tmp_path: Path) -> None:
    vocals = score(tmp_path, mixed(stems), vocals_with(brick_wall)(stems)).stems["vocals"]
    assert (vocals.verdict, vocals.reasons) == ("pass", ())
    assert [warning.code for warning in vocals.warnings] == ["lowpass_cliff"]


def test_a_swap_is_a_warning_for_both(stems: Stems, tmp_path: Path) -> None:
    swapped = {**stems, "vocals": stems["drums"], "drums": stems["vocals"]}
    report = score(tmp_path, mixed(stems), swapped)
    codes = [warning.code for warning in report.warnings]
    assert {"swapped_with_drums", "swapped_with_vocals"} <= set(codes)
    assert report.verdict == "pass"


def test_a_lost_width_is_named(stems: Stems, tmp_path: Path) -> None:
    wide = stems["other"] * np.array([[1.0, -0.8]])
    mono = np.repeat(wide.mean(axis=1, keepdims=True), 2, axis=1)
    report = score(tmp_path, mixed({**stems, "other": wide}), {**stems, "other": mono})
    assert "stereo_collapse" in report.stems["other"].reasons
    assert report.stems["other"].verdict == "fail"
    intact = score(tmp_path, mixed({**stems, "other": wide}), {**stems, "other": wide})
    assert intact.verdict == "pass"


def test_the_estimate_lies_in_its_interval(stems: Stems, tmp_path: Path) -> None:
    for damage in (lambda s: s, bleed, mixture_in_every_stem):
        report = score(tmp_path, mixed(stems), damage(stems))
        for judged in (report, *report.stems.values()):
            low, high = judged.estimated_si_sdr_low_db, judged.estimated_si_sdr_high_db
            assert low is not None
            assert high is not None
            assert low <= (judged.estimated_si_sdr_db or 0) <= high
            assert high - low > 1


def by_strength(change: Callable[[Audio, float], Audio]) -> Callable[[Stems, float], Stems]:
    return lambda stems, strength: {**stems, "vocals": change(stems["vocals"], strength)}


def low_passed(audio: Audio, hertz: float) -> Audio:
    sos = scipy.signal.butter(8, hertz, fs=RATE, output="sos")
    return np.asarray(scipy.signal.sosfiltfilt(sos, audio, axis=0))


def with_silences(audio: Audio, seconds: float) -> Audio:
    damaged = audio.copy()
    for start in range(0, len(audio), 2 * RATE):
        damaged[start + RATE - round(seconds * RATE) : start + RATE] = 0
    return damaged


def moved_to_other(stems: Stems, share: float) -> Stems:
    moved = share * stems["vocals"]
    return {**stems, "vocals": stems["vocals"] - moved, "other": stems["other"] + moved}


def at_most(audio: Audio, share: float) -> Audio:
    peak = share * np.abs(audio).max()
    return np.clip(audio, -peak, peak)


def noisy(audio: Audio, level: float) -> Audio:
    heard = np.random.default_rng(4).standard_normal(audio.shape)
    return np.asarray(audio + level * np.std(audio) * heard)


STRENGTHS: list[tuple[str, Callable[[Stems, float], Stems], tuple[float, ...]]] = [
    ("zero-sum bleed", moved_to_other, (0.0, 0.1, 0.2, 0.3, 0.5)),
    ("noise", by_strength(noisy), (0.0, 0.1, 0.3, 0.6, 1.0)),
    ("dropouts", by_strength(with_silences), (0.0, 0.2, 0.5, 0.9)),
    ("truncation", by_strength(lambda a, s: a * (np.arange(len(a))[:, None] < len(a) - s * RATE)),
     (0.0, 1.0, 2.0, 4.0, 6.0)),
    ("low-pass", by_strength(low_passed), (15_000, 2_000, 800, 300)),
    ("clipping", by_strength(at_most), (1.0, 0.7, 0.4, 0.2, 0.1)),
    ("too quiet", by_strength(lambda a, s: (1 - s) * a), (0.0, 0.1, 0.3, 0.5, 0.8)),
    ("too loud", by_strength(lambda a, s: (1 + s) * a), (0.0, 0.1, 0.5, 1.0, 3.0)),
    ("late", by_strength(lambda a, ms: np.roll(a, round(ms * RATE / 1000), axis=0)),
     (0.0, 0.05, 0.3, 1.0)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "strengths"), [s[1:] for s in STRENGTHS], ids=[s[0] for s in STRENGTHS]
)
def test_more_of_the_same_damage_never_scores_higher(
    stems: Stems,
    tmp_path: Path,
    damage: Callable[[Stems, float], Stems],
    strengths: tuple[float, ...],
) -> None:
    mixture, found = mixed(stems), []
    for strength in strengths:
        vocals = score(tmp_path, mixture, damage(stems, strength)).stems["vocals"]
        found.append((vocals.score or 0, vocals.estimated_si_sdr_db or 0))
    scores, estimates = zip(*found, strict=True)
    assert list(scores) == sorted(scores, reverse=True)
    assert list(estimates) == sorted(estimates, reverse=True)
    assert scores[0] > 0.85
    assert scores[-1] < 0.6


def test_more_bleed_scores_lower(stems: Stems, tmp_path: Path) -> None:
    reports = [
        score(tmp_path, mixed(stems), {**stems, "vocals": stems["vocals"] + a * stems["drums"]})
        for a in (0.0, 0.2, 0.4, 0.8)
    ]
    scores = [report.stems["vocals"].score or 0 for report in reports]
    leaks = [report.stems["vocals"].bleed_db or 0 for report in reports]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4
    assert scores[3] < 0.5
    assert leaks == sorted(leaks)


def test_bleed_names_its_source_whichever_it_is(stems: Stems, tmp_path: Path) -> None:
    for source in ("drums", "bass", "other"):
        damaged = {**stems, "vocals": stems["vocals"] + 0.5 * stems[source]}
        assert score(tmp_path, mixed(stems), damaged).stems["vocals"].bleed_from == source


def test_a_reason_says_what_how_much_and_where(stems: Stems, tmp_path: Path) -> None:
    report = score(tmp_path, mixed(stems), vocals_with(truncated)(stems))
    detail = next(d for d in report.details if d.code == "truncated_tail")
    assert detail.stem == "vocals"
    assert detail.value == pytest.approx(5.0, abs=0.1)
    assert (detail.start_s, detail.end_s) == pytest.approx((5.0, 10.0), abs=0.1)
    assert "vocals stem breaks off 5.0 s before the mixture ends" in detail.sentence


def test_the_worst_passage_is_where_the_damage_is(stems: Stems, tmp_path: Path) -> None:
    bled = stems["vocals"].copy()
    bled[6 * RATE : 9 * RATE] += 2 * stems["drums"][6 * RATE : 9 * RATE]
    report = score(tmp_path, mixed(stems), {**stems, "vocals": bled})
    for detail in report.stems["vocals"].details:
        if detail.code in ("bleed_from_drums", "estimated_sdr_low"):
            assert detail.start_s is not None
            assert detail.end_s is not None
            assert 4 < detail.start_s < detail.end_s < 11
    assert "bleed_from_drums" in report.stems["vocals"].reasons


def test_reasons_come_worst_first(stems: Stems, tmp_path: Path) -> None:
    vocals = score(tmp_path, mixed(stems), vocals_with(dropouts)(stems)).stems["vocals"]
    assert set(vocals.reasons[:2]) == {"cuts", "dropouts"}
    assert vocals.reasons[-1] == "estimated_sdr_low"
    assert len(vocals.reasons) == len(set(vocals.reasons)) == len(vocals.details)


# --- the track --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost_db", "verdict"), [(-20.0, "pass"), (-13.0, "review"), (-7.0, "fail")]
)
def test_the_residual_decides_the_tracks_verdict(
    stems: Stems, tmp_path: Path, lost_db: float, verdict: str
) -> None:
    mixture = mixed(stems)
    lost = np.random.default_rng(2).standard_normal(mixture.shape)
    # Relative to the mixture that has the lost part in it.
    share = 10 ** (lost_db / 10)
    lost *= np.sqrt(share / (1 - share) * np.mean(mixture**2))
    policy = QualityPolicy(thresholds=QualityThresholds(review=0, fail=0))
    report = score(tmp_path, mixture + lost, stems, policy)
    assert report.residual_db == pytest.approx(lost_db, abs=0.1)
    assert report.verdict == verdict
    assert ("residual_high" in report.reasons) == (verdict != "pass")


def test_the_residuals_worst_half_second(stems: Stems, tmp_path: Path) -> None:
    mixture = mixed(stems)
    mixture[4 * RATE : 4 * RATE + RATE // 2] *= 4
    report = score(tmp_path, mixture, stems)
    detail = next(d for d in report.details if d.code == "residual_high")
    assert (detail.start_s, detail.end_s) == (4.0, 4.5)
    worst = report.measures["residual_half_second_db"]
    assert worst == pytest.approx(20 * math.log10(3 / 4), abs=0.05)


def test_a_track_is_the_mean_of_its_stems_and_the_verdict_their_worst(
    stems: Stems, tmp_path: Path
) -> None:
    report = score(tmp_path, mixed(stems), vocals_with(clipped)(stems))
    scores = [stem.score for stem in report.stems.values() if stem.score is not None]
    estimates = [stem.estimated_si_sdr_db or 0 for stem in report.stems.values()]
    assert report.score == pytest.approx(np.mean(scores))
    assert report.estimated_si_sdr_db == pytest.approx(np.mean(estimates))
    assert report.stems["vocals"].verdict == "fail"
    assert report.verdict == "fail"


def test_thresholds_come_from_the_policy(stems: Stems, tmp_path: Path) -> None:
    damaged = {**stems, "vocals": stems["vocals"] + 0.3 * stems["drums"]}
    base = score(tmp_path, mixed(stems), damaged).stems["vocals"].score
    assert base is not None
    assert 0 < base < 1

    def verdict(fail: float, review: float) -> str:
        policy = QualityPolicy(thresholds=QualityThresholds(fail=fail, review=review))
        return score(tmp_path, mixed(stems), damaged, policy).stems["vocals"].verdict

    assert verdict(0.0, base - 0.01) == "pass"
    assert verdict(base - 0.01, base + 0.01) == "review"
    assert verdict(base + 0.01, 1.0) == "fail"


# --- absent, silent, some stems only ----------------------------------------------------------


def test_an_absent_stem_has_no_score_and_is_no_failure(stems: Stems, tmp_path: Path) -> None:
    instrumental = {**stems, "vocals": np.zeros_like(stems["vocals"])}
    report = score(tmp_path, mixed(instrumental), instrumental)
    vocals = report.stems["vocals"]
    assert (vocals.score, vocals.verdict, vocals.absent, vocals.silent) == (
        None,
        "pass",
        True,
        True,
    )
    assert vocals.estimated_si_sdr_db is None
    assert report.verdict == "pass"
    faint = {**stems, "vocals": 0.01 * stems["vocals"]}
    report = score(tmp_path, mixed(faint), faint)
    assert report.stems["vocals"].absent
    assert not report.stems["vocals"].silent


def test_a_silent_stem_whose_sound_is_in_no_other_is_named(stems: Stems, tmp_path: Path) -> None:
    report = score(tmp_path, mixed(stems), vocals_with(np.zeros_like)(stems))
    assert report.verdict == "fail"
    assert report.reasons[:2] == ("residual_high", "vocals_silent_but_expected")
    assert all(detail.start_s is not None for detail in report.details)


def test_a_silent_mixture_has_no_score_and_asks_for_a_review(tmp_path: Path) -> None:
    silence = np.zeros((RATE, 2))
    report = score(tmp_path, silence, dict.fromkeys(NAMES, silence))
    assert (report.score, report.verdict, report.reasons) == (None, "review", ("mixture_silent",))
    assert (report.details[0].start_s, report.details[0].end_s) == (0.0, 1.0)
    assert report.residual_db is None
    assert all(stem.silent for stem in report.stems.values())


@pytest.mark.parametrize("db", [-41.0, -55.0])
def test_a_very_quiet_mixture_is_scored_like_any_other(
    stems: Stems, truth: QualityReport, tmp_path: Path, db: float
) -> None:
    gain = 10 ** (db / 20)
    quiet = {name: gain * audio for name, audio in stems.items()}
    report = score(tmp_path, gain * mixed(stems), quiet)
    assert (report.verdict, report.reasons) == ("pass", ())
    assert report.score == pytest.approx(truth.score, abs=1e-4)
    assert not any(stem.silent or stem.absent for stem in report.stems.values())
    without = {**quiet, "vocals": np.zeros_like(quiet["vocals"])}
    silent = score(tmp_path, sum(without.values()), without).stems["vocals"]
    assert (silent.silent, silent.absent) == (True, True)


@pytest.mark.parametrize(("seconds", "verdict"), [(None, "pass"), (0.0, "review"), (0.4, "review")])
def test_a_damaged_source_gets_a_review_at_best(
    stems: Stems, tmp_path: Path, seconds: float | None, verdict: str
) -> None:
    paths = write(tmp_path, mixed(stems), stems)
    report = score_separation(tmp_path / "mixture.wav", paths, source_damaged_s=seconds)
    assert report.verdict == verdict
    assert report.reasons == (() if seconds is None else ("source_damaged",))
    if seconds is not None:
        assert report.details[0].value == seconds
        assert report.details[0].sentence.startswith(
            f"The source is damaged: {seconds:.2f} s of it are lost."
        )
    assert all(stem.verdict == "pass" for stem in report.stems.values())


def test_sound_in_the_stems_of_a_silent_mixture_fails(stems: Stems, tmp_path: Path) -> None:
    report = score(tmp_path, np.zeros_like(mixed(stems)), stems)
    assert (report.score, report.verdict) == (0.0, "fail")
    assert report.reasons[0] == "mixture_silent"
    assert set(report.reasons) > {"mixture_silent", "estimated_sdr_low"}


def test_all_stems_silent_while_the_mixture_is_not_scores_zero(
    stems: Stems, tmp_path: Path
) -> None:
    report = score(tmp_path, mixed(stems), {n: np.zeros_like(a) for n, a in stems.items()})
    assert (report.score, report.verdict) == (0.0, "fail")


def test_some_stems_only_are_scored_without_what_needs_the_sum(
    stems: Stems, tmp_path: Path
) -> None:
    kept = {"vocals": stems["vocals"], "drums": stems["drums"]}
    report = score(tmp_path, mixed(stems), kept, all_stems=False)
    assert report.verdict == "pass"
    assert report.residual_db is None
    assert report.assignment_entropy is None
    assert "missing_db" not in report.stems["vocals"].measures
    assert (report.stems["vocals"].estimated_si_sdr_db or 0) > 12
    damaged = {"vocals": stems["vocals"] + 0.5 * (stems["bass"] + stems["drums"])}
    report = score(tmp_path, mixed(stems), damaged, all_stems=False)
    assert report.stems["vocals"].reasons == ("estimated_sdr_low",)
    assert report.stems["vocals"].bleed_db is None
    assert set(report.stems["vocals"].costs_db) <= {"est_sdr_db", "dropout_frac", "rough_db"}


# --- invariances ------------------------------------------------------------------------------


def test_the_stems_common_gain_is_undone(
    stems: Stems, truth: QualityReport, tmp_path: Path
) -> None:
    quiet = {name: 0.25 * audio for name, audio in stems.items()}
    report = score(tmp_path, mixed(stems), quiet, gain=0.25)
    assert report.score == pytest.approx(truth.score)
    assert report.verdict == "pass"
    assert score(tmp_path, mixed(stems), quiet).verdict == "fail"


def test_the_level_of_the_whole_changes_nothing(
    stems: Stems, truth: QualityReport, tmp_path: Path
) -> None:
    quiet = {name: 0.05 * audio for name, audio in stems.items()}
    report = score(tmp_path, mixed(quiet), quiet)
    for name in NAMES:
        for measure in ("est_sdr_db", "leak_db", "assignment_entropy", "spectral_entropy"):
            assert report.stems[name].measures[measure] == pytest.approx(
                truth.stems[name].measures[measure], abs=0.01
            )


def test_the_order_of_the_stems_changes_nothing(
    stems: Stems, truth: QualityReport, tmp_path: Path
) -> None:
    turned = dict(reversed(stems.items()))
    report = score(tmp_path, mixed(stems), turned)
    assert report.score == pytest.approx(truth.score)
    assert report.stems["bass"].bleed_from == truth.stems["bass"].bleed_from


def test_the_same_files_give_the_same_report(stems: Stems, tmp_path: Path) -> None:
    assert score(tmp_path, mixed(stems), stems) == score(tmp_path, mixed(stems), stems)


# --- odd audio --------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 500, 4_410, 65_536, 65_537])
def test_any_length_gives_finite_numbers(stems: Stems, tmp_path: Path, frames: int) -> None:
    short = {name: audio[RATE : RATE + frames] for name, audio in stems.items()}
    report = score(tmp_path, mixed(short), short)
    assert all(math.isfinite(n) for n in numbers(report))
    assert QualityReport.model_validate_json(report.model_dump_json()) == report


def test_less_than_a_second_is_never_enough_to_fail_a_stem(stems: Stems, tmp_path: Path) -> None:
    """By chance a tenth of the reference stems of 0.3 s are under pass."""
    found = set()
    for start in range(0, 9 * RATE, RATE):
        part = {name: audio[start : start + RATE // 5] for name, audio in stems.items()}
        for stem in score(tmp_path, mixed(part), part).stems.values():
            found.add(stem.verdict)
            assert ("too_short" in stem.reasons) == (stem.verdict != "pass")
    assert found == {"pass", "review"}
    whole = {name: audio[: 2 * RATE] for name, audio in stems.items()}
    bad = {**whole, "vocals": -whole["vocals"]}
    assert score(tmp_path, mixed(whole), bad).stems["vocals"].verdict == "fail"


@pytest.mark.parametrize("frames", [500, 12_345, 3 * RATE + 1])
def test_every_reason_says_which_seconds_of_the_track(
    stems: Stems, tmp_path: Path, frames: int
) -> None:
    short = {name: audio[RATE : RATE + frames] for name, audio in stems.items()}
    for damage in (bleed, vocals_with(lambda a: -a), vocals_with(np.zeros_like),
                   mixture_in_every_stem, vocals_with(lambda a: 3 * a)):  # fmt: skip
        report = score(tmp_path, mixed(short), damage(short))
        assert report.verdict != "pass"
        assert report.details
        for detail in report.details:
            assert detail.start_s is not None
            assert detail.end_s is not None
            assert 0 <= detail.start_s < detail.end_s <= frames / RATE + 1e-9, detail


def test_every_reason_is_of_the_closed_list(stems: Stems, tmp_path: Path) -> None:
    listed = {code.replace("<stem>", name) for code in CODES for name in NAMES}
    for _, damage, _ in DAMAGES:
        report = score(tmp_path, mixed(stems), damage(stems))
        found = {r.code for r in (*report.details, *report.warnings)}
        assert set(report.reasons) <= found <= listed


def test_mono_files_are_scored(stems: Stems, tmp_path: Path) -> None:
    mono = {name: audio[:, :1] for name, audio in stems.items()}
    report = score(tmp_path, mixed(mono), mono)
    assert report.verdict == "pass"


def test_identical_stems_are_one_source_twice(stems: Stems, tmp_path: Path) -> None:
    half = 0.5 * stems["vocals"]
    report = score(tmp_path, 2 * half, {"vocals": half, "other": half})
    assert report.verdict == "fail"
    assert report.assignment_entropy == pytest.approx(1, abs=1e-3)
    assert report.stems["vocals"].measures["xcorr_max"] == pytest.approx(1, abs=1e-3)
    assert all(math.isfinite(n) for n in numbers(report))


def test_other_sample_rates_are_scored(stems: Stems, tmp_path: Path) -> None:
    halves = {name: scipy.signal.decimate(audio, 2, axis=0) for name, audio in stems.items()}
    paths = write(tmp_path, mixed(halves), halves)
    for path in (tmp_path / "mixture.wav", *paths.values()):
        samples, _ = sf.read(path)
        sf.write(path, samples, RATE // 2, subtype="FLOAT")
    report = score_separation(tmp_path / "mixture.wav", paths)
    assert report.verdict == "pass"
    assert (report.stems["drums"].bandwidth_hz or 0) <= RATE / 4


# --- errors -----------------------------------------------------------------------------------


def test_a_file_that_is_not_there(stems: Stems, tmp_path: Path) -> None:
    paths = write(tmp_path, mixed(stems), stems)
    with pytest.raises(SourceMissing, match=r"gone\.wav") as caught:
        score_separation(tmp_path / "mixture.wav", {**paths, "bass": tmp_path / "gone.wav"})
    assert caught.value.stage == "score"


def test_a_file_that_is_no_audio(stems: Stems, tmp_path: Path) -> None:
    paths = write(tmp_path, mixed(stems), stems)
    paths["bass"].write_text("no audio")
    with pytest.raises(CorruptAudio, match="the bass stem can't be opened as audio"):
        score_separation(tmp_path / "mixture.wav", paths)


def test_samples_that_are_not_numbers(stems: Stems, tmp_path: Path) -> None:
    broken = stems["bass"].copy()
    broken[5, 0] = np.nan
    with pytest.raises(CorruptAudio, match="the bass stem has samples that are not finite"):
        score(tmp_path, mixed(stems), {**stems, "bass": broken})


def test_a_stem_of_another_shape(stems: Stems, tmp_path: Path) -> None:
    with pytest.raises(IncompleteSeparation, match="the bass stem has 100 frames") as caught:
        score(tmp_path, mixed(stems), {**stems, "bass": stems["bass"][:100]})
    assert caught.value.missing == ("bass",)


def test_nothing_to_score(tmp_path: Path) -> None:
    nothing = np.zeros((0, 2))
    with pytest.raises(EmptyAudio):
        score(tmp_path, nothing, {"vocals": nothing})
    with pytest.raises(IncompleteSeparation, match="no stems"):
        score_separation(tmp_path / "mixture.wav", {})
    with pytest.raises(ProtocolError, match="gain"):
        score(tmp_path, nothing, {"vocals": nothing}, gain=0.0)


def test_memory_does_not_grow_with_the_length(stems: Stems, tmp_path: Path) -> None:
    def peak_bytes(times: int) -> int:
        long = {name: np.tile(audio, (times, 1)) for name, audio in stems.items()}
        paths = write(tmp_path, mixed(long), long)
        del long
        tracemalloc.start()
        score_separation(tmp_path / "mixture.wav", paths)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(5) < 1.1 * peak_bytes(1)
