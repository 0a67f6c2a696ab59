"""What `forget` and `prune` would take out of a library, and the taking."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

from pydantic import BaseModel

from tasks.paths import text_of
from tasks.recording import Library, Superseded, TrackRow, find, superseded

if TYPE_CHECKING:
    import pandas as pd


class ForgottenTrack(BaseModel):
    """A track that `forget` removes."""

    track_id: str
    label: str
    source: str
    separations: list[str]
    aliases: int = 0
    bytes: int = 0


class Forgetting(BaseModel):
    """What a query means to `forget`; `failures` are rows of sources, separated or not."""

    tracks: list[ForgottenTrack] = []
    failures: int = 0
    sources: list[str] = []

    @property
    def bytes(self) -> int:
        return sum(track.bytes for track in self.tracks)

    def carry_out(self, library: Library) -> None:
        library.forget([track.track_id for track in self.tracks], self.sources)


class PrunedSeparation(BaseModel):
    """A separation that `prune` removes, and the one that stays in its place."""

    track_id: str
    separation_id: str
    label: str
    score: float | None
    kept: str
    kept_score: float | None
    bytes: int = 0


class Pruning(BaseModel):
    """What `prune` finds: separations, and the scratch folders of dead runs with their bytes."""

    separations: list[PrunedSeparation] = []
    scratch: dict[str, int] = {}

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.separations) + sum(self.scratch.values())


def to_forget(library: Library, query: str) -> Forgetting:
    """Look up what a query means: tracks with all of their separations, or a failed source."""
    found = find(library, query)
    every, aliases, failures = library.tracks(), library.aliases(), library.failures()
    further = Counter(aliases["track_id"])
    tracks = []
    for row in map(TrackRow.read, found.to_dict("records")):
        names = every.loc[every["track_id"] == row.track_id, "separation_id"].tolist()
        tracks.append(
            ForgottenTrack(
                track_id=row.track_id,
                label=row.label,
                source=row.source,
                separations=names,
                aliases=further[row.track_id],
                bytes=sum(library.size(row.track_id, name) for name in names),
            )
        )
    ids = {track.track_id for track in tracks}
    sources = {query, _absolute(query)}.intersection(failures["source"])
    theirs = sources.union(*(_sources(frame, ids) for frame in (every, aliases)))
    gone = failures["track_id"].isin(ids) | failures["source"].isin(theirs)
    return Forgetting(tracks=tracks, failures=int(gone.sum()), sources=sorted(sources))


def to_prune(library: Library, *, keep_best: bool) -> tuple[Pruning, list[Superseded]]:
    """Find what `prune` removes, for people and for `Library.remove`; only whole ones count."""
    rows = map(TrackRow.read, library.tracks().to_dict("records"))
    groups = _of_several(list(rows))
    gone = superseded((row for row in groups if library.is_finished(*row.key)), keep_best=keep_best)
    named = [
        PrunedSeparation(
            track_id=row.track_id,
            separation_id=row.separation_id,
            label=row.label,
            score=row.score,
            kept=by.separation_id,
            kept_score=by.score,
            bytes=library.size(*row.key),
        )
        for row, by in gone
    ]
    return Pruning(separations=named, scratch=library.left_scratch()), gone


def _of_several(rows: Collection[TrackRow]) -> list[TrackRow]:
    """The rows of tracks that have more than one: others needn't be looked at on the disk."""
    count = Counter(row.track_id for row in rows)
    return [row for row in rows if count[row.track_id] > 1]


def _sources(frame: pd.DataFrame, ids: Collection[str]) -> set[str]:
    return set(frame.loc[frame["track_id"].isin(ids), "source"])


def _absolute(query: str) -> str:
    return text_of(os.path.abspath(os.path.expanduser(query)))  # noqa: PTH100, PTH111
