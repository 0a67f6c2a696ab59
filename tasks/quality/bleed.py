"""What of one stem is heard in another, and what a stem lacks or has too much of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.audio.decibels import decibels
from tasks.quality.spans import Span, WorstSpan
from tasks.quality.spectra import BINS_PER_TILE, Block, Float64, Real, Spectra, mel_band_starts

# Neighbouring bins and frames of a Hann window at half overlap are correlated: |ρ|² is 4/9 one
# bin and 1/36 two bins or one frame apart, so a tile holds this many times fewer independent
# values than it has bins.
REDUNDANCY = (1 + 2 * (4 / 9 + 1 / 36)) * (1 + 2 / 36)


def multiple_coherence(
    gram: npt.NDArray[np.complex128], degrees_of_freedom: float
) -> npt.NDArray[np.float64]:
    """Share of each signal's power that the others explain linearly, bias-corrected.

    γ²_i = 1 - 1 / (G_ii (G⁻¹)_ii), then (γ² - p) / (1 - p), p = (K - 1) / degrees of freedom:
    what independent signals would show by chance.

    Args:
        gram: Hermitian cross-spectral matrices, (..., K, K).
        degrees_of_freedom: Independent values behind each matrix.

    Returns:
        (..., K), 0 to 1; 0 for a silent signal.

    Reference: Bendat and Piersol, "Random Data", 4th ed., section 7.3.
    """
    signals = gram.shape[-1]
    normal = _correlations(gram)
    precision = np.linalg.inv(normal + 1e-7 * np.eye(signals)).diagonal(axis1=-2, axis2=-1).real
    return _unbiased(1 - 1 / np.maximum(precision, 1), (signals - 1) / degrees_of_freedom)


def _correlations(gram: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """Each matrix scaled to a unit diagonal; a silent signal correlates with nothing."""
    power = gram.diagonal(axis1=-2, axis2=-1).real
    live = power > 1e-12 * np.maximum(power.max(axis=-1, keepdims=True), 1e-20)
    scale = np.where(live, 1 / np.sqrt(np.where(live, power, 1)), 0)
    normal = gram * scale[..., :, None] * scale[..., None, :]
    eye = np.eye(gram.shape[-1], dtype=bool)
    return np.where(eye, 1, normal)


def _unbiased(coherence: npt.NDArray[np.float64], chance: float) -> npt.NDArray[np.float64]:
    if chance >= 1:
        return np.zeros_like(coherence)
    return np.clip((coherence - chance) / (1 - chance), 0, 1)


class LeakResult(NamedTuple):
    """Leak into each stem.

    Attributes:
        leak_db: dB of the stem's energy, (stems,), -100 to 0; NaN where silent.
        partner: Index of the stem it comes from most, (stems,); -1 where there is none.
        worst: Where most of the leak is.
    """

    leak_db: Float64
    partner: npt.NDArray[np.int64]
    worst: list[Span | None]


class CoherenceLeak:
    """Block-coherence leak: Σ_b P_i γ²_i C_i / (P_i + C_i) / Σ_b P_i, in dB.

    Tiles b are 8 bins by 64 frames. A part of stem i that follows the others counts as far as they
    are the louder: C_i = Σ_j γ²_ij P_j is the energy in the others that is coherent with it. The
    pairwise term γ²_ij C_ij / (P_i + C_ij) names the stem it comes from. research/quality.md has
    the share of all energy of the others there; that also takes a giver for a receiver wherever
    a third stem is loud (drums that bled at -20 dB into vocals read -5 dB, now below -16 dB).
    """

    def __init__(self, stems: int) -> None:
        self._leak = np.zeros(stems)
        self._pairs = np.zeros((stems, stems))
        self._energy = np.zeros(stems)
        self._worst = WorstSpan(stems)

    def update(self, block: Block) -> None:
        gram = block.gram[:, 1:, 1:].astype(np.complex128)
        power = gram.diagonal(axis1=-2, axis2=-1).real
        freedom = block.spectra.shape[1] * BINS_PER_TILE / REDUNDANCY
        pairwise = _unbiased(np.square(np.abs(_correlations(gram))), 1 / freedom)
        # A signal is wholly coherent with itself, so the diagonal is its own power.
        coherent = pairwise * power[:, None, :]
        together = coherent.sum(axis=2)
        share = 1 - power / np.maximum(together, 1e-30)
        leak = (power * multiple_coherence(gram, freedom) * share).sum(axis=0)
        pair_share = coherent / np.maximum(power[:, :, None] + coherent, 1e-30)
        self._leak += leak
        self._pairs += np.einsum("bi,bij,bij->ij", power, pairwise, pair_share)
        self._energy += power.sum(axis=0)
        self._worst.update(leak, block.start_s, block.end_s)

    def result(self) -> LeakResult:
        pairs = self._pairs - np.diag(np.diag(self._pairs) + 1)
        partner = np.where(pairs.max(axis=1) > 0, pairs.argmax(axis=1), -1)
        return LeakResult(decibels(self._leak, self._energy), partner, self._worst.result())


class Correlation:
    """The stems' and the mixture's correlations over the whole track."""

    def __init__(self, stems: int) -> None:
        self._gram = np.zeros((1 + stems, 1 + stems))

    def update(self, block: Block) -> None:
        self._gram += block.gram.sum(axis=0, dtype=np.complex128).real

    def largest(self) -> tuple[Float64, npt.NDArray[np.int64]]:
        """Largest Re G_ij / √(G_ii G_jj) of each stem, -1 to 1, and the stem j it is with."""
        normal = _correlations(self._gram[1:, 1:].astype(np.complex128)).real
        np.fill_diagonal(normal, -np.inf)
        return np.maximum(normal.max(axis=1), -1), normal.argmax(axis=1)

    def gains(self, active: npt.NDArray[np.bool_]) -> Float64:
        """Least-squares coefficients of the mixture on the active stems; 1 is the right level.

        min ‖X - Σ w_i S_i‖² over the track (the normal equations' real part); NaN for the others.
        """
        gains = np.full(len(active), np.nan)
        rows = 1 + np.flatnonzero(active)
        if len(rows):
            matrix = self._gram[np.ix_(rows, rows)]
            scale = np.sqrt(np.maximum(matrix.diagonal(), 1e-30))
            normal, target = matrix / np.outer(scale, scale), self._gram[rows, 0] / scale
            gains[active] = np.linalg.lstsq(normal, target, rcond=1e-5)[0] / scale
        return gains


class CrossEnergyResult(NamedTuple):
    """What a stem lacks or has too much of.

    Attributes:
        cross: Σ_b |x_b| / Σ P_i, (stems,), 0 and up; NaN where silent.
        worst: The 3 s with most of it.
    """

    cross: Float64
    worst: list[Span | None]


class CrossEnergy:
    """Cross-energy of each stem with its complement C_i = X - S_i, in about 24 mel bands.

    x_b = Σ_{f in b, t} Re(S_i conj C_i), middle and side together. A true stem is uncorrelated
    with the rest of the mixture in every band; what it lacks or has too much of shows as
    cross-energy (the orthogonality principle). -10 log10 Σ_b |x_b| / Σ P_i estimates the SI-SDR
    without the true stem, with a median error of 4.6 dB on real separations; chance correlation in
    short excerpts lowers it (research/quality.md).
    """

    def __init__(self, stems: int) -> None:
        self._bands: Float64 | None = None
        self._starts: npt.NDArray[np.int64] | None = None
        self._energy = np.zeros(stems)
        self._previous: tuple[Float64, float] | None = None
        self._worst = WorstSpan(stems)

    def update(self, block: Block) -> None:
        x = self._in_bands(block)
        self._bands = x if self._bands is None else self._bands + x
        self._energy += block.stereo_energy[1:]
        before, start_s = self._previous or (np.zeros_like(x), block.start_s)
        self._worst.update(np.abs(before + x).sum(axis=1), start_s, block.end_s)
        self._previous = (x, block.start_s)

    def _in_bands(self, block: Block) -> Float64:
        if self._starts is None:
            self._starts = mel_band_starts(block.spectra.shape[2], block.rate_hz)
        cross = _cross_energy(block.spectra, block.bin_energy)
        if block.side is not None and block.side_power is not None:
            cross += _cross_energy(block.side, block.side_power.sum(axis=1))
        return np.asarray(np.add.reduceat(cross, self._starts, axis=1))

    def result(self) -> CrossEnergyResult:
        bands = np.zeros((len(self._energy), 1)) if self._bands is None else self._bands
        energy = np.where(self._energy > 0, self._energy, np.nan)
        return CrossEnergyResult(np.abs(bands).sum(axis=1) / energy, self._worst.result())


def _cross_energy(spectra: Spectra, bin_energy: Real) -> Float64:
    """Σ_t Re(S_i conj(X - S_i)) in each bin, (stems, bins)."""
    mixture, stems = spectra[0], spectra[1:]
    agreement = np.einsum("ktf,tf->kf", stems.real, mixture.real)
    agreement += np.einsum("ktf,tf->kf", stems.imag, mixture.imag)
    return np.asarray(agreement.astype(np.float64) - bin_energy[1:])
