"""The measures against closed forms, and streaming against one shot."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal

from tasks.audio.decibels import decibels
from tasks.audio.stft import Real, ShortTimeFourier, fft_size, mel_band_starts
from tasks.quality.measures.bleed import (
    CoherenceLeak,
    Correlation,
    CrossEnergy,
    multiple_coherence,
)
from tasks.quality.measures.clipping import Clipping, flat_top_samples
from tasks.quality.measures.dropouts import Dropouts
from tasks.quality.measures.entropy import (
    SpectralShape,
    assignment_entropy,
    spectral_entropy,
    spectral_flatness,
)
from tasks.quality.measures.flux_anticorrelation import FluxAnticorrelation
from tasks.quality.measures.residual import Residual
from tasks.quality.measures.spectrum import LongTermSpectrum, Roughness
from tasks.quality.measures.stereo import Levels, StereoCollapse
from tasks.quality.measures.timbre import Timbre
from tasks.quality.reasons import CODES, TEXTS, reason
from tasks.quality.spectra import Block

RATE = 44_100
BLOCK = 64 * 1024


def noise(seed: int, *shape: int) -> Real:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def blocks(signals: Real) -> list[Block]:
    """Signals (signals, samples) as mono blocks; the mixture comes first."""
    transform = ShortTimeFourier(len(signals), 2048)
    return [
        Block(start / RATE, RATE, part[:, None, :], transform(part))
        for start in range(0, signals.shape[1], BLOCK)
        for part in [signals[:, start : start + BLOCK]]
    ]


def power_of(signal: Real) -> tuple[Real, Real]:
    block = blocks(signal[None])[0]
    return block.power[0], block.log_power[0]


# --- the transform ----------------------------------------------------------------------------


def test_blocks_give_the_spectra_of_one_shot() -> None:
    signal = noise(0, 2, 3 * BLOCK + 5000)
    whole = ShortTimeFourier(2, 2048)(signal)
    parts = np.concatenate([block.spectra for block in blocks(signal)], axis=1)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-4)


def test_the_transform_is_the_textbook_one() -> None:
    signal = noise(1, 1, 8192)
    spectra = ShortTimeFourier(1, 2048)(signal)[0]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    expected = np.fft.rfft(window * signal[0, 2048:4096])
    np.testing.assert_allclose(spectra[3], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("rate", "size"), [(44_100, 2048), (48_000, 2048), (22_050, 1024), (96_000, 4096), (8_000, 512)]
)
def test_the_window_keeps_its_length_in_time(rate: int, size: int) -> None:
    assert fft_size(rate) == size


# --- entropies --------------------------------------------------------------------------------


def test_entropy_and_flatness_of_a_sinusoid_are_near_zero() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(BLOCK) / RATE).astype(np.float32)
    power, log_power = power_of(tone)
    # A Hann window spreads a tone over three bins.
    assert spectral_entropy(power, log_power)[5:-5].max() < math.log(3) / math.log(1025)
    assert spectral_flatness(power, log_power)[5:-5].max() < 0.01


def test_entropy_of_a_flat_spectrum_is_one_and_of_noise_nearly() -> None:
    flat = np.ones((1, 1025), dtype=np.float32)
    assert spectral_entropy(flat, np.log(flat))[0] == pytest.approx(1)
    assert spectral_flatness(flat, np.log(flat))[0] == pytest.approx(1)
    power, log_power = power_of(noise(2, BLOCK))
    # |S|² of noise is exponential: E[-p ln p] gives 1 - (1 - γ) / ln F, and flatness e^-γ.
    expected = 1 - (1 - np.euler_gamma) / math.log(1025)
    assert spectral_entropy(power, log_power)[2:].mean() == pytest.approx(expected, abs=0.003)
    flatness = spectral_flatness(power, log_power)[2:].mean()
    assert flatness == pytest.approx(math.exp(-np.euler_gamma), abs=0.01)


def test_entropy_of_equal_bins_is_the_log_of_their_number() -> None:
    power = np.full((1, 1024), 1e-20, dtype=np.float32)
    power[0, 100:132] = 2.0
    assert spectral_entropy(power, np.log(power))[0] == pytest.approx(0.5, abs=1e-4)


def test_assignment_entropy_is_zero_for_disjoint_and_one_for_equal_stems() -> None:
    disjoint = np.full((2, 1, 8), 1e-20, dtype=np.float32)
    disjoint[0, 0, :4] = disjoint[1, 0, 4:] = 1
    assert assignment_entropy(disjoint, np.log(disjoint)).max() == pytest.approx(0, abs=1e-5)
    equal = np.full((4, 1, 8), 3.0, dtype=np.float32)
    np.testing.assert_allclose(assignment_entropy(equal, np.log(equal)), 1, atol=1e-5)


def test_assignment_entropy_of_a_known_split() -> None:
    power = np.array([[[3.0]], [[1.0]]], dtype=np.float32)
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert assignment_entropy(power, np.log(power))[0, 0] == pytest.approx(expected, abs=1e-5)


def test_streamed_entropy_is_the_energy_weighted_mean_of_one_shot() -> None:
    signals = noise(3, 3, 2 * BLOCK + 3000)
    signals[1, :BLOCK] *= 0.01
    signals[2] = np.sin(0.1 * np.arange(signals.shape[1]))
    streamed = SpectralShape(2)
    for block in blocks(signals):
        streamed.update(block)
    found = streamed.result()

    spectra = ShortTimeFourier(3, 2048)(signals)
    power = (np.abs(spectra) ** 2).astype(np.float64)
    p = power / power.sum(axis=2, keepdims=True)
    entropy = -(p * np.log(p + 1e-30)).sum(axis=2) / np.log(1025)
    weight = power.sum(axis=2)
    expected = (entropy * weight).sum(axis=1) / weight.sum(axis=1)
    entropies = [found.track["spectral_entropy"], *found.stems["spectral_entropy"]]
    np.testing.assert_allclose(entropies, expected, atol=1e-4)
    delta = ((entropy[0] - entropy[1:]) * weight[1:]).sum(axis=1) / weight[1:].sum(axis=1)
    np.testing.assert_allclose(found.stems["spectral_entropy_delta"], delta, atol=1e-4)


# --- coherence, correlation -------------------------------------------------------------------


def test_independent_noise_has_no_coherence_left_after_the_correction() -> None:
    leak = CoherenceLeak(4)
    for block in blocks(
        np.concatenate([np.zeros((1, 4 * BLOCK)), noise(4, 4, 4 * BLOCK)]).astype("f4")
    ):
        leak.update(block)
    assert leak.result().stems["leak_db"].max() < -20


def test_coherence_of_a_known_mixture() -> None:
    # y = x + n with equal powers: γ² = 1 / 2.
    gram = np.array([[1.0, 1.0], [1.0, 2.0]], dtype=np.complex128)
    np.testing.assert_allclose(multiple_coherence(gram, 1e9), 0.5, atol=1e-5)
    chance = multiple_coherence(gram, 10)
    np.testing.assert_allclose(chance, (0.5 - 0.1) / 0.9, atol=1e-5)


def test_the_leak_is_as_large_as_the_bleed_that_was_put_in() -> None:
    a, b = noise(5, 2, 4 * BLOCK)
    bled = b + 0.1 * a
    leak = CoherenceLeak(2)
    for block in blocks(np.stack([a + b, a, bled]).astype(np.float32)):
        leak.update(block)
    found = leak.result()
    # In bled, 1/101 of the energy follows a, and a is as loud there as that.
    assert found.stems["leak_db"][1] < -20
    assert list(found.partners["leak_db"]) == [1, 0]

    quiet = 0.1 * b + 1.0 * a
    leak = CoherenceLeak(2)
    for block in blocks(np.stack([a + b, a, quiet]).astype(np.float32)):
        leak.update(block)
    assert leak.result().stems["leak_db"][1] == pytest.approx(-3, abs=0.3)


def test_least_squares_gains_undo_wrong_levels() -> None:
    a, b, c = noise(6, 3, 2 * BLOCK)
    correlation = Correlation(3)
    for block in blocks(np.stack([a + b, 2 * a, -b, c]).astype(np.float32)):
        correlation.update(block)
    gains = correlation.gains(np.array([True, True, False]))
    np.testing.assert_allclose(gains[:2], [0.5, -1.0], atol=1e-4)
    assert np.isnan(gains[2])


def test_mel_bands_tile_the_spectrum() -> None:
    starts = mel_band_starts(1025, RATE)
    assert len(starts) == 24
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    assert (np.diff(np.diff(starts)) >= -1).all()


# --- defects ----------------------------------------------------------------------------------


def test_a_sine_is_not_clipped_at_any_pitch_but_a_clipped_one_is() -> None:
    t = np.arange(RATE) / RATE
    for pitch in (30, 50, 100, 440, 3000):
        sine = (0.5 * np.sin(2 * np.pi * pitch * t)).astype(np.float32)
        sixteen_bit = np.round(sine * 32768) / np.float32(32768)
        for x in (sine, sixteen_bit):
            assert flat_top_samples(np.abs(x), float(np.abs(x).max())) == 0
        tops = np.clip(sine, -0.4, 0.4)
        share = (np.abs(tops) == np.float32(0.4)).mean()
        counted = flat_top_samples(np.abs(tops), 0.4) / RATE
        assert counted == pytest.approx(share, rel=0.02)


def test_a_higher_peak_later_takes_back_what_looked_clipped() -> None:
    signal = 0.1 * noise(7, BLOCK * 2)
    signal[1000:1100] = 0.6
    for later, clipped in ((0.0, 100), (0.9, 0)):
        signal[BLOCK + 500] = later
        counter = Clipping(1)
        for block in blocks(np.stack([signal, signal])):
            counter.update(block)
        found = counter.result()
        worst = found.spans["clip_log_ppm"]
        assert found.stems["clip_ppm"][0] * signal.size / 1e6 == pytest.approx(clipped)
        assert (worst[0] is None) == (clipped == 0)


def interrupted(*gaps: tuple[float, float], fade_s: float = 0.0) -> Dropouts:
    """Ten seconds of noise as the mixture, and the same with silences as the stem."""
    mixture = 0.1 * noise(8, 10 * RATE)
    envelope = np.ones(10 * RATE)
    for start, end in gaps:
        first, last, fade = round(start * RATE), round(end * RATE), round(fade_s * RATE)
        envelope[first - fade : first] = 10 ** (-6 * np.arange(fade) / max(fade, 1))
        envelope[first:last] = 0
    dropouts = Dropouts()
    for block in blocks(np.stack([mixture, mixture * envelope]).astype(np.float32)):
        dropouts.update(block)
    return dropouts


def test_cut_silences_are_dropouts() -> None:
    (found,) = interrupted((2, 2.5), (5, 6)).interruptions()
    assert found.dropout_frac == pytest.approx(0.15, abs=0.01)
    assert found.dead_frac == pytest.approx(0.15, abs=0.01)
    assert found.cuts_per_min == pytest.approx(12)
    assert found.longest == pytest.approx((5, 6), abs=0.02)
    assert found.tail_cut_s == 0


def test_rests_that_fade_out_are_none() -> None:
    (found,) = interrupted((2, 2.5), (5, 6), fade_s=0.4).interruptions()
    assert found.dead_frac == pytest.approx(0.15, abs=0.02)
    assert (found.dropout_frac, found.cuts_per_min, found.longest) == (0, 0, None)


def test_a_tail_that_is_cut_is_told_from_one_that_fades() -> None:
    (cut,) = interrupted((7, 10)).interruptions()
    assert cut.tail_gap_s == pytest.approx(3, abs=0.02)
    assert cut.tail_cut_s == cut.tail_gap_s
    assert cut.tail == pytest.approx((7, 10), abs=0.02)
    assert cut.dropout_frac == 0
    (faded,) = interrupted((7, 10), fade_s=0.5).interruptions()
    assert faded.tail_gap_s == pytest.approx(3, abs=0.15)
    assert faded.tail_cut_s == 0


def resting(missed: bool) -> tuple[Dropouts, Dropouts]:
    """A stem that fades into a rest at 4 s of 10; the mixture has it again from 6 s on, or not."""
    t = np.arange(10 * RATE) / RATE
    plays = np.clip(5 * (4 - t), 0, 1) ** 6
    stem = 0.1 * noise(19, len(t)) * plays
    again = 0.1 * noise(20, len(t)) * (t > 6) * missed
    beside = 0.1 * noise(21, len(t))
    of_all, of_some = Dropouts(), Dropouts(all_stems=False)
    for block in blocks(np.stack([stem + again + beside, stem, beside]).astype(np.float32)):
        of_all.update(block)
        of_some.update(block)
    return of_all, of_some


def test_a_tail_that_is_cut_in_a_rest_is_told_by_what_the_mixture_goes_on_with() -> None:
    of_all, of_some = resting(missed=True)
    cut, beside = of_all.interruptions()
    assert cut.tail_gap_s == pytest.approx(6, abs=0.1)
    assert cut.tail_cut_s == cut.tail_gap_s
    assert cut.tail == pytest.approx((4, 10), abs=0.1)
    assert beside.tail_cut_s == 0
    # Where not all stems are here, the rest of the mixture is theirs that aren't.
    assert [found.tail_cut_s for found in of_some.interruptions()] == [0, 0]


def test_a_stem_that_rests_to_the_end_is_not_cut() -> None:
    rests, _ = resting(missed=False)[0].interruptions()
    assert rests.tail_gap_s == pytest.approx(6, abs=0.1)
    assert rests.tail_cut_s == 0


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100])
def test_dropouts_are_where_they_are_at_any_rate(rate: int) -> None:
    mixture = 0.1 * noise(22, 60 * rate)
    stem = mixture.copy()
    stem[50 * rate : 55 * rate] = 0
    dropouts, transform = Dropouts(), ShortTimeFourier(2, fft_size(rate))
    signals = np.stack([mixture, stem])
    dropouts.update(Block(0.0, rate, signals[:, None, :], transform(signals[:, :rate])))
    (found,) = dropouts.interruptions()
    assert found.longest == pytest.approx((50, 55), abs=0.015)


def test_bandwidth_and_cliff_of_a_low_passed_stem() -> None:
    mixture = noise(9, 2 * BLOCK)
    spectrum = np.fft.rfft(mixture)
    spectrum[int(8000 / RATE * len(mixture)) :] = 0
    faded = np.minimum(np.minimum(np.arange(2 * BLOCK), np.arange(2 * BLOCK)[::-1]) / 5000, 1)
    stem = (np.fft.irfft(spectrum, len(mixture)) * faded**2).astype(np.float32)
    spectra = LongTermSpectrum(1)
    for block in blocks(np.stack([mixture, stem])):
        spectra.update(block)
    found = spectra.summary()
    assert found.bandwidth_hz == pytest.approx([RATE / 2, 8000], abs=300)
    assert found.cliff_rel_db[0] > 60
    assert found.ends_at_bin[0] * RATE / 2048 == pytest.approx(8000, abs=300)


def test_what_is_lost_over_a_cliff_is_the_stem_s_that_ends_there() -> None:
    """Two stems of noise; of one, 4 kHz and more is lost, which the other can't have lost."""
    whole, beside = noise(23, 4 * BLOCK), noise(24, 4 * BLOCK)
    sos = scipy.signal.butter(30, 4000, fs=RATE, output="sos")
    cut = scipy.signal.sosfiltfilt(sos, whole)
    spectra, residual = LongTermSpectrum(2), Residual(2)
    for block in blocks(np.stack([whole + beside, cut, beside]).astype(np.float32)):
        spectra.update(block)
        residual.update(block)
    found = spectra.summary()
    assert found.ends_at_bin[1] == -1
    lost = residual.lost_above(found.ends_at_bin, found.end_level)
    expected = ((whole - cut) ** 2).sum() / (cut**2).sum()
    assert lost[0] == pytest.approx(expected, rel=0.05)
    assert lost[1] == 0


def test_what_is_lost_in_dropouts_is_the_stem_s_that_breaks_off() -> None:
    whole, beside = 0.1 * noise(25, 10 * RATE), 0.1 * noise(26, 10 * RATE)
    stem = whole.copy()
    for start in (2, 5, 9):
        stem[start * RATE : (start + 1) * RATE] = 0
    dropouts = Dropouts()
    for block in blocks(np.stack([whole + beside, stem, beside])):
        dropouts.update(block)
    lost = dropouts.lost(dropouts.interruptions())
    assert lost == pytest.approx([3 / 7, 0], rel=0.02)


def test_silences_that_lack_nothing_lose_nothing() -> None:
    """Gated drums are cut off too, and whole."""
    beside = 0.1 * noise(27, 10 * RATE)
    gated = 0.1 * noise(28, 10 * RATE)
    gated[3 * RATE : 4 * RATE] = 0
    dropouts = Dropouts()
    for block in blocks(np.stack([gated + beside, gated, beside])):
        dropouts.update(block)
    (found, _) = dropouts.interruptions()
    assert found.dropout_frac > 0
    assert dropouts.lost(dropouts.interruptions()).max() < 1e-6


def test_decibels_of_nothing_are_floored_or_not_a_number() -> None:
    assert decibels(0.0, 1.0) == -100
    assert decibels(100.0) == 20
    assert np.isnan(decibels(1.0, 0.0))


# --- stereo, timbre, what a stem lacks --------------------------------------------------------


def stereo_blocks(signals: Real) -> list[Block]:
    """Signals (signals, 2, samples) as stereo blocks; the mixture comes first."""
    middle, side = ShortTimeFourier(len(signals), 2048), ShortTimeFourier(len(signals), 2048)
    return [
        Block(
            start / RATE,
            RATE,
            part,
            middle(part.mean(axis=1)),
            side((part[:, 0] - part[:, 1]) / np.float32(2)),
        )
        for start in range(0, signals.shape[2], BLOCK)
        for part in [signals[:, :, start : start + BLOCK]]
    ]


def test_width_that_is_lost_is_laid_to_the_stem_without_any() -> None:
    wide, centred = noise(10, 2, 2 * BLOCK), np.repeat(noise(11, 1, 2 * BLOCK), 2, axis=0)
    mono = np.repeat(wide.mean(axis=0, keepdims=True), 2, axis=0)
    mixture = wide + centred
    for stem, expected in ((wide, -100.0), (mono, 10 * math.log10(1 / 1))):
        collapse, levels = StereoCollapse(1), Levels(1)
        for block in stereo_blocks(np.stack([wide, stem])):
            collapse.update(block)
            levels.update(block)
        # Independent channels: half of the energy is side, as much as what is left.
        assert collapse.result().stems["collapse_db"][0] == pytest.approx(expected, abs=0.1)
        assert levels.side_mid_db()[0] == pytest.approx(0, abs=0.1)
    blamed = StereoCollapse(2)
    for block in stereo_blocks(np.stack([mixture, wide, centred])):
        blamed.update(block)
    np.testing.assert_allclose(blamed.result().stems["collapse_db"], -100, atol=0.1)


@pytest.mark.parametrize(("gain", "expected"), [(1.0, 25.0), (0.5, 0.0), (2.0, 3.01)])
def test_cross_energy_of_a_wrong_gain(gain: float, expected: float) -> None:
    # S = g T, C = R + (1 - g) T: |cross| / P = |1 - g| / g.
    true, rest = noise(12, 2, 4 * BLOCK), noise(13, 2, 4 * BLOCK)
    cross = CrossEnergy(1)
    for block in stereo_blocks(np.stack([true + rest, gain * true])):
        cross.update(block)
    estimate = -cross.result().stems["cross_db"][0]
    assert estimate > 20 if gain == 1 else estimate == pytest.approx(expected, abs=0.2)


def test_one_channel_upside_down_shows_in_the_side() -> None:
    true = np.repeat(noise(14, 1, 2 * BLOCK), 2, axis=0)
    turned = true * np.array([[1], [-1]], dtype=np.float32)
    cross = CrossEnergy(1)
    for block in stereo_blocks(np.stack([true, turned])):
        cross.update(block)
    # Middle and side have changed places: nothing agrees, all of it is excess.
    assert 10 ** (cross.result().stems["cross_db"][0] / 10) == pytest.approx(1, abs=0.01)


def test_the_residual_by_time_and_band() -> None:
    stem = noise(15, 2 * BLOCK)
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * BLOCK) / RATE)).astype(np.float32)
    tone[: RATE // 2] = 0
    tone[RATE:] = 0
    residual = Residual(1)
    for block in blocks(np.stack([stem + tone, stem])):
        residual.update(block)
    found = residual.result()
    share = float((tone**2).sum() / ((stem + tone) ** 2).sum())
    whole_db = found.track["residual_db"]
    assert whole_db == pytest.approx(10 * math.log10(share), abs=0.01)
    assert found.track_spans["residual_db"] == (0.5, 1.0)
    assert found.track["residual_half_second_db"] == pytest.approx(
        10 * math.log10(0.125 / 1.125), abs=0.2
    )
    worst_db, begins_hz = found.track["residual_band_db"], found.track["residual_band_hz"]
    assert 700 < begins_hz <= 1000
    assert worst_db > whole_db
    bands = {name: db for name, db in found.track.items() if name.startswith("residual_from_")}
    assert len(bands) == 24
    del bands[f"residual_from_{begins_hz:.0f}_hz_db"]
    assert max(bands.values()) < worst_db - 10


def test_a_last_half_second_that_is_shorter_ends_with_the_track() -> None:
    stem = noise(18, RATE + 4_410)
    mixture = stem.copy()
    mixture[RATE:] *= 2
    residual = Residual(1)
    for block in blocks(np.stack([mixture, stem])):
        residual.update(block)
    assert residual.result().track_spans["residual_db"] == (1.0, 1.1)


def test_timbre_of_known_signals() -> None:
    t = np.arange(4 * BLOCK) / RATE
    low, high = np.sin(2 * np.pi * 100 * t), np.sin(2 * np.pi * 8000 * t)
    ticks = noise(16, len(t)) * np.exp(-(t % 0.25) * 60)
    timbre = Timbre(3)
    for block in blocks(np.stack([low, low, high, ticks]).astype(np.float32)):
        timbre.update(block)
    found = timbre.result().stems
    np.testing.assert_allclose(found["low_share"][:2], [1, 0], atol=0.01)
    np.testing.assert_allclose(found["high_share"][:2], [0, 1], atol=0.01)
    assert found["centroid_hz"][0] < 2000 < found["centroid_hz"][1]
    assert found["percussiveness"][2] > 3 * found["percussiveness"][:2].max()


def test_a_smooth_gain_is_no_roughness_but_holes_are() -> None:
    whole = noise(17, 4 * BLOCK)
    _, _, spectra = scipy.signal.stft(whole, RATE, nperseg=2048)
    spectra *= np.random.default_rng(0).random(spectra.shape) > 0.4
    holes = scipy.signal.istft(spectra, RATE, nperseg=2048)[1][: len(whole)]
    rough = Roughness(2)
    for block in blocks(np.stack([whole, 0.3 * whole, holes]).astype(np.float32)):
        rough.update(block)
    values = rough.result().stems["rough_db"]
    assert values[0] == pytest.approx(0, abs=1e-3)
    assert values[1] > 2


def motion_of(first: Real, second: Real) -> list[float]:
    measure = FluxAnticorrelation(2)
    for block in blocks(np.stack([first + second, first, second])):
        measure.update(block)
    return [float(value) for value in measure.result().stems["contrary_motion"]]


def test_motion_to_and_fro_is_told_from_motion_at_will_and_together() -> None:
    t = np.arange(4 * BLOCK) / RATE
    low, high = np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 550 * t)
    gate = 0.5 + 0.5 * np.sin(2 * np.pi * 1.3 * t)
    assert motion_of(*np.float32([gate * low, (1 - gate) * low])) == pytest.approx([1, 1], abs=0.1)
    assert motion_of(noise(1, len(t)), noise(2, len(t))) == pytest.approx([0, 0], abs=0.02)
    together = motion_of(*np.float32([gate * low, gate * (low + 0.1 * high)]))
    assert together == pytest.approx([-1, -0.9], abs=0.1)


def test_motion_does_not_depend_on_where_blocks_end() -> None:
    first, second = noise(3, 3 * BLOCK), noise(4, 3 * BLOCK)
    second[BLOCK:] -= 0.3 * first[BLOCK:]
    signals = np.stack([first + second, first, second])
    whole = ShortTimeFourier(3, 2048)(signals)
    one_shot = FluxAnticorrelation(2)
    one_shot.update(Block(0.0, RATE, signals[:, None, :], whole))
    assert motion_of(first, second) == pytest.approx(
        list(one_shot.result().stems["contrary_motion"]), abs=1e-4
    )


# --- reasons ----------------------------------------------------------------------------------


def test_every_code_has_a_sentence_and_advice() -> None:
    assert set(TEXTS) == set(CODES)
    for code in CODES:
        made = reason(code, stem="vocals", other="drums", value=1.0, span=(1.0, 2.0))
        assert "<" not in made.code
        assert "{" not in made.sentence
        assert made.sentence.count(".") >= 2
    assert reason("bleed_from_<stem>", stem="vocals", other="drums").code == "bleed_from_drums"
    silent = reason("<stem>_silent_but_expected", stem="vocals")
    assert silent.code == "vocals_silent_but_expected"
