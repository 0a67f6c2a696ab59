"""Which separations of a track another one of it has made needless."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from tasks.recording.rows import TrackRow
from tasks.wording import shown_score


class Superseded(NamedTuple):
    """A separation, and the one that takes its place."""

    row: TrackRow
    by: TrackRow


def superseded(rows: Iterable[TrackRow], *, keep_best: bool = False) -> list[Superseded]:
    """Return what a better separation of the same track and model replaces, or a newer equal one.

    Scores are equal where they are shown alike, to two digits. What has a stem that the better one
    hasn't stays.

    Args:
        rows: Those of finished separations.
        keep_best: Whichever the models are.
    """
    alike: dict[tuple[str, str], list[TrackRow]] = defaultdict(list)
    for row in rows:
        alike[row.track_id, "" if keep_best else row.model or ""].append(row)
    return [one for group in alike.values() for one in _within(group)]


def _within(group: list[TrackRow]) -> list[Superseded]:
    kept: list[TrackRow] = []
    found: list[Superseded] = []
    for row in sorted(group, key=_rank, reverse=True):
        stems = set(row.stems_present)
        by = next((other for other in kept if stems <= set(other.stems_present)), None)
        if by is None:
            kept.append(row)
        else:
            found.append(Superseded(row, by))
    return found


def _rank(row: TrackRow) -> tuple[float, float]:
    score = shown_score(row.score)
    return -1.0 if score is None else score, row.created_at.timestamp() if row.created_at else 0.0
