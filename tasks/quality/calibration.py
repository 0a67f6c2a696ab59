"""Where a separation stands among its like: robust statistics of a library's own populations.

A population is all stems, or tracks, of one model, stem and genre. Its size decides whether it
speaks: one under `MIN_POPULATION` is passed over for the wider one (model and stem; stem; none).
With 30, the percentile of a middling track has a standard error of 9 points.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from tasks.contracts import MaybeFloat, QualityReport, Value

if TYPE_CHECKING:
    import pandas as pd

MIN_POPULATION = 30
TRACK = ""
"""Stands in the place of a stem's name for the track as a whole."""

MEASURES = (
    "score",
    "estimated_si_sdr_db",
    "spectral_entropy",
    "spectral_entropy_delta",
    "spectral_flatness",
    "assignment_entropy",
    "bandwidth_hz",
    "bleed_db",
    "residual_db",
    "energy_share",
)
"""Columns of the tables that are calibrated, those that a table has."""

DESCRIPTORS = (
    "spectral_entropy",
    "spectral_entropy_delta",
    "spectral_flatness",
    "assignment_entropy",
    "bandwidth_hz",
)
"""What tells an unusual stem from a bad one."""

ATYPICAL_Z = 3.5
"""Robust z from which a value is an outlier (Iglewicz and Hoaglin 1993, section 3)."""

log = logging.getLogger(__name__)

Reals = npt.NDArray[np.float64]
Key = tuple[str, str, str]
"""Model, stem, genre; empty texts stand for any."""


class Spread(Value):
    """One measure in one population: `count` values, their median and a robust scale.

    `scale` estimates a standard deviation: 1.4826 times the median absolute deviation from the
    median, or where that is zero 1.2533 times the mean absolute deviation; null if all are equal.
    `quantiles` are evenly spaced in probability, from the least value to the greatest.
    """

    count: int
    median: float
    scale: MaybeFloat
    quantiles: tuple[float, ...] = Field(min_length=2)

    @classmethod
    def of(cls, values: npt.NDArray[np.float64]) -> Spread:
        """The spread of finite values, at least one."""
        median = float(np.median(values))
        off = np.abs(values - median)
        scale = 1.4826 * float(np.median(off)) or 1.2533 * float(np.mean(off))
        steps = min(100, max(1, values.size - 1))
        grid = np.quantile(values, np.linspace(0, 1, steps + 1))
        return cls(
            count=int(values.size),
            median=median,
            scale=scale or None,
            quantiles=tuple(round(float(value), 6) for value in grid),
        )

    def robust_z(self, values: Reals) -> Reals:
        """Scales from the median; not-a-number where the scale is null."""
        return (values - self.median) / (math.nan if self.scale is None else self.scale)

    def percentile(self, values: Reals) -> Reals:
        """The share of the population under each value, 0 to 100; among equals, their middle."""
        grid = np.asarray(self.quantiles)
        shares = np.linspace(0, 100, grid.size)
        rounded = np.round(values, 6)
        first = np.searchsorted(grid, rounded, "left")
        last = np.searchsorted(grid, rounded, "right")
        met = first < last
        at_a_step = (shares[np.where(met, first, 0)] + shares[np.where(met, last - 1, 0)]) / 2
        return np.where(met, at_a_step, np.interp(rounded, grid, shares))


class Standing(Value):
    """Where a value stands: its percentile and robust z in a population of `population_size`.

    `population` names it ("htdemucs · vocals · rock"); all are empty where none is large enough.
    """

    percentile: MaybeFloat = None
    robust_z: MaybeFloat = None
    population: str = ""
    population_size: int = 0


class Population(Value):
    """The spreads of one population's measures. Empty texts stand for any model, stem or genre."""

    model: str = ""
    stem: str = ""
    genre: str = ""
    measures: dict[str, Spread]

    @property
    def name(self) -> str:
        return " · ".join(part for part in (self.model, self.stem or "tracks", self.genre) if part)


class Calibration(Value):
    """A library's populations, `LIBRARY/reports/calibration.json`."""

    schema_version: int = 1
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    tracks: int = 0
    populations: tuple[Population, ...] = ()

    def spread(self, measure: str, key: Key) -> tuple[Population, Spread] | None:
        """The narrowest population with enough values of a measure, or None."""
        known = self._by_key
        for wider in _wider(key):
            population = known.get(wider)
            found = population.measures.get(measure) if population else None
            if population and found and found.count >= MIN_POPULATION:
                return population, found
        return None

    def standing(
        self, value: float | None, *, model: str, stem: str, genre: str, measure: str = "score"
    ) -> Standing:
        """Where a value stands among its like; an empty standing for null or without a population.

        Args:
            value: In the measure's unit.
            stem: `TRACK` for a track's.
            genre: As the catalog or the tags say it; its case and outer spaces don't matter.
        """
        found = self.spread(measure, (model, stem, _plain(genre)))
        if value is None or not math.isfinite(value) or found is None:
            return Standing()
        population, spread = found
        alone = np.array([value])
        return Standing(
            percentile=float(spread.percentile(alone)[0]),
            robust_z=float(spread.robust_z(alone)[0]),
            population=population.name,
            population_size=spread.count,
        )

    def place(self, report: QualityReport, *, model: str, genre: str) -> QualityReport:
        """The report with the standing of its score and of its stems' scores filled in."""
        stems = {
            name: stem.model_copy(
                update=self.standing(stem.score, model=model, stem=name, genre=genre).model_dump()
            )
            for name, stem in report.stems.items()
        }
        whole = self.standing(report.score, model=model, stem=TRACK, genre=genre)
        return report.model_copy(update={**whole.model_dump(), "stems": stems})

    @cached_property
    def _by_key(self) -> dict[Key, Population]:
        return {(p.model, p.stem, p.genre): p for p in self.populations}

    def dump(self) -> bytes:
        """As JSON."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes | None) -> Calibration | None:
        """Read what `dump` wrote; None for nothing, or (with a warning) for what isn't that."""
        if data is None:
            return None
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            log.warning(
                "the calibration can't be read and isn't used: %s", error.errors()[0]["msg"]
            )
            return None


def _wider(key: Key) -> Iterator[Key]:
    model, stem, genre = key
    if genre:
        yield key
    yield (model, stem, "")
    yield ("", stem, "")


def _plain(genre: str) -> str:
    return " ".join(genre.casefold().split())


def calibrate(tracks: pd.DataFrame, stems: pd.DataFrame) -> Calibration:
    """Measure the populations of a library from its tables.

    Of several separations of a track by one model the newest counts. Stems without a score
    (absent ones) belong to no population.

    Args:
        tracks: `reports/tracks`, oldest first.
        stems: `reports/stems`; the model and genre of each are those of its track.
    """
    members = [*_members(population_frame(tracks, stems))]
    return Calibration(
        tracks=int(tracks["track_id"].nunique()),
        populations=tuple(
            population for key, frame in members if (population := _population(key, frame))
        ),
    )


def population_frame(tracks: pd.DataFrame, stems: pd.DataFrame) -> pd.DataFrame:
    """Tracks and stems in one frame: the measures, `model`, `stem` (`TRACK` for a track), `genre`.

    Its other columns are `track_id`, `separation_id`, `verdict` and `created_at`.
    """
    import pandas as pd

    newest = tracks.drop_duplicates(["track_id", "model"], keep="last").copy()
    newest["genre"] = newest["genre"].fillna("").map(_plain)
    newest["stem"] = TRACK
    whose = newest[["track_id", "separation_id", "model", "genre"]]
    of_stems = stems.merge(whose, on=["track_id", "separation_id"], how="inner")
    names = ["track_id", "separation_id", "verdict", "created_at", "model", "stem", "genre"]
    wanted = [*names, *MEASURES]
    parts = [part.reindex(columns=wanted) for part in (newest, of_stems)]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _members(frame: pd.DataFrame) -> Iterator[tuple[Key, pd.DataFrame]]:
    """Every population of a frame, wide ones too. Those too small to speak are left out."""
    scored = frame[frame["score"].notna()]
    for names in (["model", "stem", "genre"], ["model", "stem"], ["stem"]):
        for values, some in scored.groupby(names, sort=True):
            parts = dict(zip(names, _texts(values), strict=True))
            if "genre" in parts and not parts["genre"]:
                continue
            if len(some) >= MIN_POPULATION:
                yield (parts.get("model", ""), parts["stem"], parts.get("genre", "")), some


def _texts(values: Any) -> Iterable[str]:
    return [str(value) for value in (values if isinstance(values, tuple) else (values,))]


def _population(key: Key, frame: pd.DataFrame) -> Population | None:
    spreads: dict[str, Spread] = {}
    for name in MEASURES:
        values = _reals(frame[name])
        known = values[np.isfinite(values)]
        if known.size:
            spreads[name] = Spread.of(known)
    model, stem, genre = key
    return Population(model=model, stem=stem, genre=genre, measures=spreads) if spreads else None


def standings(calibration: Calibration, frame: pd.DataFrame) -> pd.DataFrame:
    """Where every row of a `population_frame` stands.

    Returns:
        Of the same index: `percentile`, `robust_z` and `population`, `population_size` of the
        score, and `atypical`: as JSON, the descriptors that are outliers (`ATYPICAL_Z`) in the
        row's own population, with their robust z. Unusual isn't bad: it never lowers a verdict.
    """
    import pandas as pd

    percentile, robust_z = np.full((2, len(frame)), math.nan)
    population = np.full(len(frame), "", dtype=object)
    size = np.zeros(len(frame), dtype=np.int64)
    outliers: list[dict[str, float]] = [{} for _ in range(len(frame))]
    scores = _reals(frame["score"])
    grouped = frame.groupby(["model", "stem", "genre"], sort=False).indices
    for values, positions in grouped.items():
        places = np.asarray(positions)
        model, stem, genre = _texts(values)
        at = places[np.isfinite(scores[places])]
        if where := calibration.spread("score", (model, stem, genre)):
            found, spread = where
            percentile[at] = spread.percentile(scores[at])
            robust_z[at] = spread.robust_z(scores[at])
            population[at], size[at] = found.name, spread.count
        for name in DESCRIPTORS:
            if where := calibration.spread(name, (model, stem, genre)):
                z = where[1].robust_z(_reals(frame[name])[at])
                for far in np.flatnonzero(np.abs(z) >= ATYPICAL_Z):
                    outliers[at[far]][name] = round(float(z[far]), 2)
    columns = {
        "percentile": percentile,
        "robust_z": robust_z,
        "population": population,
        "population_size": size,
        "atypical": [json.dumps(one) for one in outliers],
    }
    return pd.DataFrame(columns, index=frame.index)


def _reals(column: pd.Series[Any]) -> Reals:
    return column.to_numpy(dtype=float, na_value=math.nan)
