"""Entropies: how spread a spectrum is, and how unclear it is which stem a bin belongs to."""

from __future__ import annotations

import numpy as np

from tasks.audio.stft import Real
from tasks.quality.measure import Measure, Measured, Others, Scope, register
from tasks.quality.spectra import POWER_FLOOR, Block, weighted


def spectral_entropy(power: Real, log_power: Real, total: Real | None = None) -> Real:
    """Entropy of each frame's spectrum: H = -Σ p ln p / ln F, p = P / Σ P.

    0 for a single bin, 1 for a flat spectrum. A descriptor: on its own it tells degraded stems
    from intact ones hardly better than chance (ROC-AUC 0.57).

    Args:
        power: |S|², (..., bins).
        log_power: ln |S|², of the same shape.
        total: Sum of the power over the bins, (...,), if it is known.

    Returns:
        (...,), 0 where a frame is silent.

    Reference: Shannon 1948; Misra et al., "Spectral entropy based feature", ICASSP 2004.
    """
    total = power.sum(axis=-1) if total is None else total
    surprise = np.einsum("...f,...f->...", power, log_power)
    safe = np.maximum(total, POWER_FLOOR)
    entropy = (np.log(safe) - surprise / safe) / np.float32(np.log(power.shape[-1]))
    return np.where(total > POWER_FLOOR, np.clip(entropy, 0, 1), 0).astype(np.float32)


def spectral_flatness(power: Real, log_power: Real, total: Real | None = None) -> Real:
    """Geometric over arithmetic mean of each frame's |S|²; 0 for tones, e^-γ = 0.56 for noise.

    Reference: Gray and Markel, IEEE TASSP 22(3), 1974.
    """
    total = power.sum(axis=-1) if total is None else total
    mean = np.maximum(total / np.float32(power.shape[-1]), POWER_FLOOR)
    return np.asarray(np.minimum(np.exp(log_power.mean(axis=-1)) / mean, 1))


def assignment_entropy(power: Real, log_power: Real) -> Real:
    """How shared each bin is: h = -Σ_i q_i ln q_i / ln K, q_i = P_i / Σ_j P_j.

    0 where a bin belongs to one stem, 1 where all K share it alike.

    Args:
        power: The stems' |S|², (K, ...).
        log_power: ln |S|², of the same shape.

    Returns:
        (...,), 0 where all stems are silent.
    """
    total = power.sum(axis=0)
    safe = np.maximum(total, POWER_FLOOR)
    shared = np.log(safe) - np.einsum("k...,k...->...", power, log_power) / safe
    entropy = shared / np.float32(np.log(max(len(power), 2)))
    return np.where(total > POWER_FLOOR, np.clip(entropy, 0, 1), 0).astype(np.float32)


@register
class SpectralShape(Measure):
    """Spectral entropy, its difference to the mixture's, and flatness.

    Means weighted by energy, NaN where a signal is silent; the difference is the mixture's entropy
    minus the stem's, both weighted by the stem's energy.
    """

    name = "spectral_shape"

    def __init__(self, stems: int) -> None:
        self._entropy = np.zeros(1 + stems)
        self._mixture_entropy = np.zeros(1 + stems)
        self._flatness = np.zeros(1 + stems)
        self._energy = np.zeros(1 + stems)

    def update(self, block: Block) -> None:
        weight = block.frame_energy
        entropy = spectral_entropy(block.power, block.log_power, weight)
        flatness = spectral_flatness(block.power, block.log_power, weight)
        self._entropy += np.einsum("st,st->s", entropy, weight)
        self._mixture_entropy += np.einsum("t,st->s", entropy[0], weight)
        self._flatness += np.einsum("st,st->s", flatness, weight)
        self._energy += block.energy

    def result(self) -> Measured:
        energy = np.where(self._energy > 0, self._energy, np.nan)
        entropy, flatness = self._entropy / energy, self._flatness / energy
        return Measured(
            track={"spectral_entropy": entropy[0], "spectral_flatness": flatness[0]},
            stems={
                "spectral_entropy": entropy[1:],
                "spectral_entropy_delta": self._mixture_entropy[1:] / energy[1:] - entropy[1:],
                "spectral_flatness": flatness[1:],
            },
        )


@register
class AssignmentEntropy(Measure):
    """Assignment entropy of each stem, Σ P_i h / Σ P_i, and of the track; NaN where silent."""

    name = "assignment_entropy"

    def __init__(self, stems: int) -> None:
        self._shared = np.zeros(stems)
        self._energy = np.zeros(stems)

    @classmethod
    def of(cls, scope: Scope, others: Others) -> AssignmentEntropy | None:
        return cls(scope.stems) if scope.all_stems and scope.stems > 1 else None

    def update(self, block: Block) -> None:
        h = assignment_entropy(block.power[1:], block.log_power[1:])
        self._shared += weighted(block.power[1:], h)
        self._energy += block.energy[1:]

    def result(self) -> Measured:
        energy = np.where(self._energy > 0, self._energy, np.nan)
        total = self._energy.sum()
        track = float(self._shared.sum() / total) if total > 0 else float("nan")
        return Measured(
            track={"assignment_entropy": track},
            stems={"assignment_entropy": self._shared / energy},
        )
