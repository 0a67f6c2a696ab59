"""What a library needs of the place that it lies in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol


class Store(Protocol):
    """A folder on a disk, or a prefix of an object store.

    Places are relative, with slashes. What goes wrong is an `OSError`, or with a remote store
    whatever its driver raises; the library translates it.
    """

    remote: bool

    @property
    def scratch(self) -> Path:
        """Where the scratch folders of runs on this machine are."""

    def address(self, place: str) -> str:
        """The place as a person, or another program, can open it."""

    def exists(self, place: str) -> bool: ...

    def read(self, place: str) -> bytes: ...

    def write(self, place: str, data: bytes) -> None:
        """Under the lock: put a file in its place, whole, over what is there."""

    def names(self, place: str) -> list[str]:
        """The names in a folder, sorted; none if it isn't there."""

    def parquet(self, places: Sequence[str]) -> tuple[list[str], Any]:
        """Paths and file system, as `pyarrow.dataset.dataset` takes them."""

    def sidecars(self) -> Iterator[tuple[str, bytes | OSError]]:
        """Every finished separation: its place, and its report.json or why it may not be read.

        A passing error ends it: a table rebuilt without what a bad moment hid would be wrong.
        """

    def commit(self, folder: Path, place: str) -> bool:
        """Put a sealed folder in its place; False if something is there already."""

    def replace(self, folder: Path, place: str) -> bool:
        """The same over what is there, under the lock; False if a finished one slipped in."""

    def lock(self, timeout_s: float) -> AbstractContextManager[None]:
        """Exclude every other writer of the tables, where the store can."""

    def settle(self) -> list[str]:
        """Under the lock: finish what a dead holder left; the places that it had replaced."""

    def forget(self, place: str) -> None:
        """Under the lock: the replacement at `place` is wholly done."""

    def staging(self) -> AbstractContextManager[Path]:
        """Under the lock: an empty folder to write tables into, as `TABLE/NAME.parquet`."""

    def publish(self, staged: Path, remove: Sequence[str]) -> None:
        """Under the lock: all staged tables appear and all of `remove` go, or none do."""
