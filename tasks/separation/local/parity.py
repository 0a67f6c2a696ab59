"""How alike two computations of the same signal are."""

from __future__ import annotations

import math

import torch


def agreement_db(signal: torch.Tensor, reference: torch.Tensor) -> float:
    """Energy of the reference over that of the difference, in dB; infinite where they are equal.

    A signal that isn't finite agrees with nothing: minus infinity.
    """
    noise = float((signal.double() - reference.double()).square().sum())
    energy = float(reference.double().square().sum())
    if not math.isfinite(noise):
        return -math.inf
    return 10 * math.log10(energy / noise) if noise and energy else math.inf


def worst_stem_db(estimates: torch.Tensor, reference: torch.Tensor) -> float:
    """The least agreement of any stem; both are (segments, stems, channels, frames)."""
    pairs = zip(estimates.unbind(1), reference.unbind(1), strict=True)
    return min(agreement_db(stem, true) for stem, true in pairs)
