"""A change of a library that takes several steps, noted before the first and carried out whole."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts import Value
from tasks.recording.layout import REPORT, Key, place_of
from tasks.recording.recorder import Recorder
from tasks.recording.removal import remove_rows
from tasks.recording.rows import Alias
from tasks.recording.storage import Storage


class Change(Value):
    """What the library is going to be like. Carrying it out twice is the same as once.

    Attributes:
        reports: A separation's folder to the text that its report.json is going to have.
        removed: Separations that go, with their rows.
        sources: Those of which the failures go.
        aliases: What was said of tracks by rows that go, where the track stays.
    """

    reports: dict[str, str] = Field(default={})
    removed: tuple[Key, ...] = ()
    sources: tuple[str, ...] = ()
    aliases: tuple[Alias, ...] = ()

    def carry_out(self, store: Storage, recorder: Recorder) -> None:
        """Make it so, under the store's lock; who dies at it leaves the rest to the next holder.

        Of a folder that can't be removed the error is raised when the tables agree with the
        folders again: it must not keep others from writing.
        """
        data = self.model_dump_json().encode()
        if store.noted_change() != data:
            store.note_change(data)
        try:
            for key in self.removed:
                store.remove(place_of(*key))
        finally:
            self._follow(store, recorder)

    def _follow(self, store: Storage, recorder: Recorder) -> None:
        if self.removed or self.sources:
            remove_rows(store, self.removed, self.sources, recorder.unknown_aliases(self.aliases))
        for place, text in self.reports.items():
            # It may have been removed by hand since it was noted.
            if store.exists(f"{place}/{REPORT}"):
                store.write(f"{place}/{REPORT}", text.encode())
        recorder.refresh(self.reports)
        store.forget_change()
