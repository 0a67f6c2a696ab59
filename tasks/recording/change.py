"""A change of a library that takes several steps, noted before the first and carried out whole."""

from __future__ import annotations

from pydantic import Field

from tasks.contracts import Value
from tasks.recording.layout import REPORT
from tasks.recording.recorder import Recorder
from tasks.recording.storage import Storage


class Change(Value):
    """What the library is going to be like. Carrying it out twice is the same as once.

    Attributes:
        reports: A separation's folder to the text that its report.json is going to have.
    """

    reports: dict[str, str] = Field(default={})

    def carry_out(self, store: Storage, recorder: Recorder) -> None:
        """Make it so, under the store's lock; who dies at it leaves the rest to the next holder."""
        data = self.model_dump_json().encode()
        if store.noted_change() != data:
            store.note_change(data)
        for place, text in self.reports.items():
            # It may have been removed by hand since it was noted.
            if store.exists(f"{place}/{REPORT}"):
                store.write(f"{place}/{REPORT}", text.encode())
        recorder.refresh(self.reports)
        store.forget_change()
