"""What a library says of itself: its calibration, what drifted, what is flagged. No Prefect here.

A review leaves two files beside the tables, and changes no report:

- `reports/calibration.json`: the populations (`tasks.quality.calibration`), which the next runs
  take percentiles from;
- `reports/review/standings.parquet`: where every track (`stem` is empty) and stem stands now.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from tasks.contracts import Value, track_label
from tasks.quality.drift import Shift, shift_between
from tasks.recording import Library

if TYPE_CHECKING:
    import pandas as pd

    from tasks.quality.calibration import Calibration

CALIBRATION = "calibration.json"
STANDINGS = "review/standings.parquet"
KEPT = 1_000
"""Rows of a summary's lists; the table on the disk has them all."""

log = logging.getLogger(__name__)


class Period(Value):
    """Reports made from `since` on, against those before it (back to `earliest`, if given)."""

    since: datetime
    earliest: datetime | None = None

    @classmethod
    def of_days(cls, days: float, against_days: float = 0.0) -> Period:
        """The last `days` against the `against_days` before them; 0 is all that was before."""
        return cls.from_date(datetime.now(UTC) - timedelta(days=days), against_days)

    @classmethod
    def from_date(cls, since: datetime, against_days: float = 0.0) -> Period:
        """From a time on; one without a zone is UTC."""
        since = since if since.tzinfo else since.replace(tzinfo=UTC)
        earliest = since - timedelta(days=against_days) if against_days else None
        return cls(since=since, earliest=earliest)


class Drift(Value):
    """How a measure of one model moved; `stem` is empty for tracks.

    `within_genre` compares after taking each genre's own median off, so that another mix of
    genres isn't taken for another quality.
    """

    model: str
    stem: str
    measure: str
    plain: Shift
    within_genre: Shift


class _Reviewed(Value):
    """Which separation of which track."""

    track_id: str
    separation_id: str
    label: str
    model: str
    genre: str


class Flagged(_Reviewed):
    """A track of the period whose verdict is below pass; `was` is its verdict before, if any."""

    verdict: str
    was: str
    score: float | None
    percentile: float | None
    population: str
    reasons: tuple[str, ...]
    worst: str = ""


class Atypical(_Reviewed):
    """A stem of the period with descriptors far from its population's: unusual, maybe not bad."""

    stem: str
    descriptors: dict[str, float]


class ReviewSummary(BaseModel):
    """What a review found. The lists hold the first `KEPT`; the counts are of all."""

    library: str
    since: datetime
    confidence: float
    tolerance: float
    tracks: int = 0
    new_reports: int = 0
    populations: int = 0
    written: bool = False
    drifts: list[Drift] = []
    flagged_count: int = 0
    flagged: list[Flagged] = []
    atypical_count: int = 0
    atypical: list[Atypical] = []

    @property
    def fallen(self) -> list[str]:
        """Models whose tracks score lower than before, by more than the tolerance."""
        return [
            drift.model
            for drift in self.drifts
            if not drift.stem
            and drift.measure == "score"
            and drift.within_genre.moved
            and (drift.within_genre.shift or 0.0) < -self.tolerance
        ]

    @property
    def headline(self) -> str:
        """One sentence on all of it."""
        parts = [
            f"{self.new_reports:,} of {self.tracks:,} tracks since {self.since:%Y-%m-%d}",
            f"{self.flagged_count:,} flagged",
            f"{self.atypical_count:,} unusual stems",
        ]
        if self.fallen:
            parts.append(f"scores fell with {', '.join(self.fallen)}")
        return ", ".join(parts) + "."


def calibration_of(library: Library) -> Calibration | None:
    """The library's calibration; None before its first review, or when it can't be read."""
    from tasks.quality.calibration import Calibration

    return Calibration.parse(library.document(CALIBRATION))


def review(
    library: Library,
    period: Period,
    *,
    confidence: float = 0.95,
    tolerance: float = 0.02,
    write: bool = True,
) -> ReviewSummary:
    """Calibrate a library to itself, and say what changed in a period.

    Args:
        library: Its tables are read whole.
        period: Which reports count as new, and against which.
        confidence: Of the drifts' intervals.
        tolerance: A fall of the score within this is no drift, however certain.
        write: Leave the calibration and the standings beside the tables.
    """
    from tasks.quality.calibration import calibrate, population_frame, standings

    tracks, stems = library.tracks(), library.stems()
    summary = ReviewSummary(
        library=library.url, since=period.since, confidence=confidence, tolerance=tolerance
    )
    if tracks.empty:
        return summary
    calibration = calibrate(tracks, stems)
    frame = population_frame(tracks, stems)
    frame = frame.join(standings(calibration, frame))
    fresh = frame["created_at"] >= period.since
    summary.tracks = calibration.tracks
    summary.new_reports = int((fresh & (frame["stem"] == "")).sum())
    summary.populations = len(calibration.populations)
    summary.drifts = list(_drifts(frame, period, confidence))
    _list_flagged(summary, frame[fresh], tracks, period)
    _list_atypical(summary, frame[fresh], tracks)
    if write:
        library.write_document(CALIBRATION, calibration.dump())
        library.write_document(STANDINGS, _as_parquet(frame))
        summary.written = True
    return summary


# --- drift --------------------------------------------------------------------------------------


def _drifts(frame: pd.DataFrame, period: Period, confidence: float) -> Iterator[Drift]:
    since, earliest = period.since, period.earliest
    after = frame["created_at"] >= since
    before = frame["created_at"] < since
    if earliest is not None:
        before &= frame["created_at"] >= earliest
    for (model, stem), some in frame[after | before].groupby(["model", "stem"], sort=True):
        for measure in ("score", "estimated_si_sdr_db"):
            values = some[measure].astype(float)
            centred = values - values.groupby(some["genre"]).transform("median")
            old, new = before.loc[some.index], after.loc[some.index]
            plain, within = (
                shift_between(
                    column[old].to_numpy(dtype=np.float64),
                    column[new].to_numpy(dtype=np.float64),
                    confidence,
                )
                for column in (values, centred)
            )
            if plain.shift is not None:
                yield Drift(
                    model=model, stem=stem, measure=measure, plain=plain, within_genre=within
                )


# --- what is new --------------------------------------------------------------------------------


def _list_flagged(
    summary: ReviewSummary, fresh: pd.DataFrame, tracks: pd.DataFrame, period: Period
) -> None:
    newest = (
        fresh[fresh["stem"] == ""]
        .sort_values("created_at")
        .drop_duplicates("track_id", keep="last")
    )
    flagged = newest[newest["verdict"] != "pass"].sort_values("score", na_position="first")
    old = tracks[tracks["created_at"] < period.since].drop_duplicates("track_id", keep="last")
    before = dict(zip(old["track_id"], old["verdict"], strict=True))
    summary.flagged_count = len(flagged)
    for row, track in _with_tracks(flagged.head(KEPT), tracks):
        summary.flagged.append(
            Flagged(
                **_named(row, track),
                verdict=row["verdict"],
                was=before.get(row["track_id"], ""),
                score=row["score"],
                percentile=row["percentile"],
                population=row["population"],
                reasons=tuple(json.loads(track["reasons"] or "[]")),
                worst=track.get("worst") or "",
            )
        )


def _list_atypical(summary: ReviewSummary, fresh: pd.DataFrame, tracks: pd.DataFrame) -> None:
    odd = fresh[(fresh["stem"] != "") & (fresh["atypical"] != "{}")]
    summary.atypical_count = len(odd)
    for row, track in _with_tracks(odd.head(KEPT), tracks):
        summary.atypical.append(
            Atypical(
                **_named(row, track), stem=row["stem"], descriptors=json.loads(row["atypical"])
            )
        )


def _named(row: dict[str, Any], track: dict[str, Any]) -> dict[str, str]:
    return {
        "track_id": row["track_id"],
        "separation_id": row["separation_id"],
        "label": track_label(track["artist"], track["title"], track["source"]),
        "model": row["model"],
        "genre": row["genre"],
    }


def _with_tracks(
    some: pd.DataFrame, tracks: pd.DataFrame
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row with that of its track in `reports/tracks`."""
    named = tracks[tracks["track_id"].isin(some["track_id"])]
    known = {(row["track_id"], row["separation_id"]): row for row in _rows(named)}
    for row in _rows(some):
        yield row, known[row["track_id"], row["separation_id"]]


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows in plain types; what isn't known is None, not pandas' not-a-number."""
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


# --- standings ----------------------------------------------------------------------------------

_OVERLAID = ["percentile", "robust_z", "population", "population_size"]
_KEY = ["track_id", "separation_id"]


def _as_parquet(frame: pd.DataFrame) -> bytes:
    columns = [*_KEY, "stem", "model", "genre", "score", "verdict", *_OVERLAID, "atypical"]
    data = BytesIO()
    frame[[*columns, "created_at"]].to_parquet(data, index=False)
    return data.getvalue()


def with_standings(library: Library, tracks: pd.DataFrame) -> pd.DataFrame:
    """Rows of `reports/tracks` with where they stand as of the last review.

    A row that the review didn't see keeps what its run wrote.
    """
    import pandas as pd
    import pyarrow as pa

    data = library.document(STANDINGS)
    if data is None or tracks.empty:
        return tracks
    try:
        known = pd.read_parquet(BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        log.warning("%s can't be read and isn't used: %s", STANDINGS, error)
        return tracks
    known = known[known["stem"] == ""].set_index([*_KEY, "created_at"])[_OVERLAID]
    keyed = tracks.set_index([*_KEY, "created_at"])
    seen = keyed.index.isin(known.index)
    now = known.reindex(keyed.index)
    placed = tracks.copy()
    for name in _OVERLAID:
        placed.loc[seen, name] = now.loc[seen, name].to_numpy()
    return placed
