"""Entropies: how spread a spectrum is, and how unclear it is which stem a bin belongs to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.quality.spectra import POWER_FLOOR, Block, Float64, Real


def spectral_entropy(power: Real, log_power: Real) -> Real:
    """Entropy of each frame's spectrum: H = -Σ p ln p / ln F, p = P / Σ P.

    0 for a single bin, 1 for a flat spectrum. A descriptor: on its own it tells degraded stems
    from intact ones hardly better than chance (ROC-AUC 0.57, research/quality.md).

    Args:
        power: |S|², (..., bins).
        log_power: ln |S|², of the same shape.

    Returns:
        (...,), 0 where a frame is silent.

    Reference: Shannon 1948; Misra et al., "Spectral entropy based feature", ICASSP 2004.
    """
    total = power.sum(axis=-1)
    surprise = np.einsum("...f,...f->...", power, log_power)
    safe = np.maximum(total, POWER_FLOOR)
    entropy = (np.log(safe) - surprise / safe) / np.log(power.shape[-1])
    return np.where(total > POWER_FLOOR, np.clip(entropy, 0, 1), 0).astype(np.float32)


def spectral_flatness(power: Real, log_power: Real) -> Real:
    """Geometric over arithmetic mean of each frame's |S|²; 0 for tones, e^-γ = 0.56 for noise.

    Reference: Gray and Markel, IEEE TASSP 22(3), 1974.
    """
    mean = np.maximum(power.mean(axis=-1), POWER_FLOOR)
    return np.asarray(np.minimum(np.exp(log_power.mean(axis=-1)) / mean, 1))


def assignment_entropy(power: Real, log_power: Real) -> Real:
    """How shared each bin is: h = -Σ_i q_i ln q_i / ln K, q_i = P_i / Σ_j P_j.

    0 where a bin belongs to one stem, 1 where all K share it alike (research/quality.md).

    Args:
        power: The stems' |S|², (K, ...).
        log_power: ln |S|², of the same shape.

    Returns:
        (...,), 0 where all stems are silent.
    """
    total = power.sum(axis=0)
    safe = np.maximum(total, POWER_FLOOR)
    shared = np.log(safe) - np.einsum("k...,k...->...", power, log_power) / safe
    entropy = shared / np.log(max(len(power), 2))
    return np.where(total > POWER_FLOOR, np.clip(entropy, 0, 1), 0).astype(np.float32)


class EntropyResult(NamedTuple):
    """Energy-weighted means; the mixture is signal 0. NaN where a signal is silent.

    Attributes:
        entropy: Spectral entropy, (signals,), 0 to 1.
        delta: Mixture's entropy minus the stem's, weighted by the stem's energy, (stems,).
        flatness: Spectral flatness, (signals,), 0 to 1.
    """

    entropy: Float64
    delta: Float64
    flatness: Float64


class SpectralShape:
    """Spectral entropy, its difference to the mixture and flatness, over blocks."""

    def __init__(self, stems: int) -> None:
        self._entropy = np.zeros(1 + stems)
        self._mixture_entropy = np.zeros(1 + stems)
        self._flatness = np.zeros(1 + stems)
        self._energy = np.zeros(1 + stems)

    def update(self, block: Block) -> None:
        weight = block.frame_energy
        entropy = spectral_entropy(block.power, block.log_power)
        flatness = spectral_flatness(block.power, block.log_power)
        self._entropy += np.einsum("st,st->s", entropy, weight)
        self._mixture_entropy += np.einsum("t,st->s", entropy[0], weight)
        self._flatness += np.einsum("st,st->s", flatness, weight)
        self._energy += block.energy

    def result(self) -> EntropyResult:
        energy = np.where(self._energy > 0, self._energy, np.nan)
        entropy = self._entropy / energy
        return EntropyResult(
            entropy,
            self._mixture_entropy[1:] / energy[1:] - entropy[1:],
            self._flatness / energy,
        )


class AssignmentEntropy:
    """Assignment entropy of each stem, Σ P_i h / Σ P_i, and of the track, over blocks."""

    def __init__(self, stems: int) -> None:
        self._shared = np.zeros(stems)
        self._energy = np.zeros(stems)

    def update(self, block: Block) -> Float64:
        """Returns the block's shared energy for each stem, Σ P_i h."""
        h = assignment_entropy(block.power[1:], block.log_power[1:])
        shared = np.einsum("ktf,tf->k", block.power[1:], h).astype(np.float64)
        self._shared += shared
        self._energy += block.energy[1:]
        return np.asarray(shared)

    def result(self) -> tuple[Float64, float]:
        """A of each stem (stems,) and of the track, 0 to 1; NaN where silent."""
        energy = np.where(self._energy > 0, self._energy, np.nan)
        total = self._energy.sum()
        track = float(self._shared.sum() / total) if total > 0 else float("nan")
        return self._shared / energy, track
