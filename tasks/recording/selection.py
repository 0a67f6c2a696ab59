"""Which reports of a library are meant: by words, model, run, date, genre and verdict."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from tasks.contracts import Verdict
from tasks.errors import SettingsError
from tasks.recording.query import find, have_words

if TYPE_CHECKING:
    import pandas as pd

    from tasks.recording.library import Library


@dataclass(frozen=True)
class Selection:
    """What reports have to be like; what is empty or None leaves them all.

    Attributes:
        query: As `find` takes it.
        model: A model's name, or one separation's identity.
        run: A run's id, its first digits (eight at least), or its name.
        since: Made then or later; without a zone it is UTC.
        until: Made by then; midnight stands for the whole of the day that begins.
        genre: Whatever its case.
        verdict: Of the newest report of a track that is like the rest.
    """

    query: str = ""
    model: str = ""
    run: str = ""
    since: datetime | None = None
    until: datetime | None = None
    genre: str = ""
    verdict: Verdict | None = None

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def rows(self, library: Library) -> pd.DataFrame:
        """Return the newest row of each separation that is so, oldest first, of any verdict."""
        frame = self._in_time(library.tracks())
        if self.query.strip():
            frame = frame[frame["track_id"].isin(find(library, self.query)["track_id"])]
        if self.model:
            frame = frame[made_by(frame, self.model)]
        if self.run:
            frame = frame[self._of_run(frame) | (frame["flow_run_name"] == self.run)]
        if self.genre:
            wanted = self.genre.strip().casefold()
            frame = frame[frame["genre"].fillna("").str.strip().str.casefold() == wanted]
        return frame

    def newest(self, library: Library) -> pd.DataFrame:
        """Return the newest row of each track that is so, worst first."""
        frame = self.rows(library).drop_duplicates("track_id", keep="last")
        if self.verdict is not None:
            frame = frame[frame["verdict"] == self.verdict]
        return frame.sort_values("score", kind="stable", na_position="last")

    def failures(self, library: Library) -> pd.DataFrame:
        """Return the failed attempts that are so, oldest first; of a query, those of its tracks
        and of sources that have its words."""
        frame = self._in_time(library.failures())
        if self.run:
            frame = frame[self._of_run(frame)]
        if self.query.strip():
            tracks = frame["track_id"].isin(find(library, self.query)["track_id"])
            frame = frame[tracks | have_words(frame, ("source", "label"), self.query)]
        return frame

    def _of_run(self, frame: pd.DataFrame) -> pd.Series[bool]:
        ids = frame["run_id"].fillna("")
        return ids.str.startswith(self.run) if len(self.run) >= 8 else ids == self.run

    def _in_time(self, frame: pd.DataFrame) -> pd.DataFrame:
        if self.since is not None:
            frame = frame[frame["created_at"] >= _utc(self.since)]
        if self.until is not None:
            until = _utc(self.until)
            if until.time() == time():
                frame = frame[frame["created_at"] < until + timedelta(days=1)]
            else:
                frame = frame[frame["created_at"] <= until]
        return frame


def made_by(frame: pd.DataFrame, name: str) -> pd.Series[bool]:
    """Tell which rows are of a model, or of one separation identity."""
    return (frame["model"] == name) | (frame["separation_id"] == name)


def newest_by(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the newest row of each track by a model, or of a separation identity."""
    return frame[made_by(frame, name)].drop_duplicates("track_id", keep="last")


def demand_both(library: Library, names: tuple[str, str]) -> None:
    """Check that two models or separation identities can be compared.

    Raises:
        SettingsError: The library has nothing by one of them, or they are one and the same.
    """
    frame = library.tracks()
    if names[0] == names[1]:
        raise SettingsError(
            f"{names[0]} can't be compared with itself.",
            remedy="Name two models, or two separation ids of one model.",
        )
    for name in names:
        if not frame.empty and not made_by(frame, name).any():
            there = [*frame["model"].dropna().unique(), *frame["separation_id"].unique()]
            few = f"{', '.join(there[:8])}{', …' if len(there) > 8 else ''}"
            raise SettingsError(
                f"{library.url} has no separation by {name}.", remedy=f"It has: {few}."
            )


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
