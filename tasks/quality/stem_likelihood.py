"""Whether a stem sounds like its name: a swap looks perfect to every other measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from pydantic import model_validator

from tasks.audio.decibels import Float64
from tasks.contracts import Value

FEATURES = ("log2_centroid", "low_share", "high_share", "percussiveness", "spectral_entropy")


def features(measures: Mapping[str, float | None]) -> Float64 | None:
    """The stem's timbre as a vector in the order of FEATURES; None where it is silent.

    Shares and percussiveness enter by their square roots, which spreads small values.
    """
    names = ("centroid_hz", "low_share", "high_share", "percussiveness", "spectral_entropy")
    values = [measures.get(name) for name in names]
    if any(value is None or not math.isfinite(value) for value in values):
        return None
    centroid, *rest = np.array(values, dtype=np.float64)
    low, high, percussive, entropy = np.maximum(rest, 0)
    spread = [np.log2(max(float(centroid), 1.0)), *np.sqrt([low, high, percussive]), entropy]
    return np.array(spread, dtype=np.float64)


class StemLikelihood(Value):
    """Linear discriminants: how well a timbre fits each stem's name, in nats.

    l(name) = bias + weights · (features - mean) / scale, the log of a normal likelihood of equal
    covariance for all names, up to a constant (Fisher, "The use of multiple measurements in
    taxonomic problems", 1936). A swap of stems i and j would fit better by
    l_i(j) + l_j(i) - l_i(i) - l_j(j); above `swap_nats` it is worth a warning.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    swap_nats: float

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        lengths = {len(self.mean), len(self.scale), *map(len, self.weights)}
        if lengths != {len(FEATURES)} or not (
            len(self.weights) == len(self.bias) == len(self.names)
        ):
            raise ValueError("each name needs a bias and a weight for each feature")
        return self

    def fits(self, measures: Mapping[str, float | None]) -> Float64 | None:
        """How well a stem fits each of `names`, nats up to a constant; None where silent."""
        vector = features(measures)
        if vector is None:
            return None
        normal = (vector - np.array(self.mean)) / np.array(self.scale)
        return np.asarray(np.array(self.weights) @ normal + np.array(self.bias))

    def swaps(
        self, stems: Mapping[str, Mapping[str, float | None]]
    ) -> dict[str, tuple[str, float]]:
        """For each stem of a known name, the stem to swap it with that gains most, and the gain.

        Args:
            stems: Measures by stem, of the stems that are present.

        Returns:
            Nats, above zero where the swapped names fit better.
        """
        known = [name for name in stems if name in self.names]
        fits = {name: fit for name in known if (fit := self.fits(stems[name])) is not None}
        return {
            name: max(
                ((other, self._gain(fits, (name, other))) for other in fits if other != name),
                key=lambda pair: pair[1],
            )
            for name in fits
            if len(fits) > 1
        }

    def _gain(self, fits: Mapping[str, Float64], pair: Sequence[str]) -> float:
        i, j = (self.names.index(name) for name in pair)
        a, b = (fits[name] for name in pair)
        return float(a[j] + b[i] - a[i] - b[j])
