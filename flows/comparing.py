"""Two models, or two settings, on the tracks that both have separated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from tasks.contracts import Verdict
from tasks.recording import Library, Selection, TrackRow, demand_both, newest_by

if TYPE_CHECKING:
    import pandas as pd


class Measured(BaseModel):
    """What a comparison looks at; of a difference, the second's minus the first's."""

    score: float | None = None
    estimated_si_sdr_db: float | None = None
    separation_s: float | None = None


class Side(Measured):
    """What one of the two made of a track."""

    separation_id: str
    verdict: Verdict | None = None
    folder: str


class ComparedTrack(BaseModel):
    """A track that both have separated."""

    track_id: str
    label: str
    duration_s: float | None
    first: Side
    second: Side
    difference: Measured


class Comparison(BaseModel):
    """Two models or separation identities, track by track, what lost most first."""

    names: tuple[str, str]
    mean_difference: Measured
    better: int
    """Tracks that the second scores higher."""
    worse: int
    tracks: list[ComparedTrack]


def compare(library: Library, names: tuple[str, str], selection: Selection) -> Comparison:
    """Compare the newest separations by two models of each track that both have.

    Args:
        library: Where they are.
        names: Models, or separation identities.
        selection: Which reports count.

    Raises:
        SettingsError: The library has nothing by one of them, or they are one and the same.
    """
    demand_both(library, names)
    frame = selection.rows(library)
    first, second = (_newest(frame, name) for name in names)
    tracks = [_compared(library, first[id_], second[id_]) for id_ in first if id_ in second]
    tracks.sort(key=lambda track: (track.difference.score is None, track.difference.score or 0.0))
    scores = [track.difference.score or 0.0 for track in tracks]
    return Comparison(
        names=names,
        mean_difference=_mean([track.difference for track in tracks]),
        better=sum(score > 0 for score in scores),
        worse=sum(score < 0 for score in scores),
        tracks=tracks,
    )


def _newest(frame: pd.DataFrame, name: str) -> dict[str, TrackRow]:
    rows = newest_by(frame, name).to_dict("records")
    return {row["track_id"]: TrackRow.read(row) for row in rows}


def _compared(library: Library, first: TrackRow, second: TrackRow) -> ComparedTrack:
    sides = [_side(library, row) for row in (first, second)]
    return ComparedTrack(
        track_id=first.track_id,
        label=second.label,
        duration_s=first.duration_s,
        first=sides[0],
        second=sides[1],
        difference=Measured(
            **{
                name: _minus(getattr(second, name), getattr(first, name))
                for name in Measured.model_fields
            }
        ),
    )


def _side(library: Library, row: TrackRow) -> Side:
    known = row.model_dump(include={*Side.model_fields})
    return Side(**known, folder=library.folder(*row.key))


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _mean(differences: list[Measured]) -> Measured:
    known = {
        name: [value for one in differences if (value := getattr(one, name)) is not None]
        for name in Measured.model_fields
    }
    return Measured(**{name: sum(values) / len(values) for name, values in known.items() if values})
