"""What a library needs of the place that it lies in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

BLOCK_BYTES = 1 << 20


class Storage(ABC):
    """A folder on a disk, or a prefix of an object store.

    Places are relative, with slashes. What goes wrong is an `OSError`, or with a remote storage
    whatever its driver raises; the library translates it.
    """

    remote: ClassVar[bool]

    @property
    @abstractmethod
    def scratch(self) -> Path:
        """Where the scratch folders of runs on this machine are."""

    @abstractmethod
    def address(self, place: str) -> str:
        """Return the place as a person, or another program, can open it."""

    @abstractmethod
    def exists(self, place: str) -> bool: ...

    @abstractmethod
    def read(self, place: str) -> bytes: ...

    @abstractmethod
    def blocks(self, place: str) -> Iterator[bytes]:
        """Yield a file's bytes, a block at a time."""

    @abstractmethod
    def discard(self, place: str) -> None:
        """Remove one file; none is fine."""

    @abstractmethod
    def write(self, place: str, data: bytes) -> None:
        """Under the lock: put a file in its place, whole, over what is there."""

    @abstractmethod
    def names(self, place: str) -> list[str]:
        """Return the names in a folder, sorted; none if it isn't there."""

    @abstractmethod
    def sizes(self, place: str) -> dict[str, int]:
        """Return the size of each file in a folder by one listing; none if it isn't there."""

    @abstractmethod
    def parquet(self, places: Sequence[str]) -> tuple[list[str], Any]:
        """Return paths and file system, as `pyarrow.dataset.dataset` takes them."""

    @abstractmethod
    def sidecars(self) -> Iterator[tuple[str, bytes | OSError]]:
        """Yield every finished separation: its place, and its report.json or why it can't be read.

        A passing error ends it: a table rebuilt without what a bad moment hid would be wrong.
        """

    @abstractmethod
    def commit(self, folder: Path, place: str) -> bool:
        """Put a sealed folder in its place; False if something is there already."""

    @abstractmethod
    def replace(self, folder: Path, place: str) -> bool:
        """Do the same over what is there, under the lock; False if a finished one slipped in."""

    @abstractmethod
    def remove(self, place: str) -> None:
        """Under the lock: take a separation away; from the first step on it isn't finished."""

    @abstractmethod
    def lock(self, timeout_s: float) -> AbstractContextManager[None]:
        """Exclude every other writer of the tables, where that can be."""

    @abstractmethod
    def staging(self) -> AbstractContextManager[Path]:
        """Under the lock: an empty folder to write tables into, as `TABLE/NAME.parquet`."""

    @abstractmethod
    def publish(self, staged: Path, remove: Sequence[str]) -> None:
        """Under the lock: all staged tables appear and all of `remove` go, or none do."""

    # --- only where something that takes several steps can be finished by others -------------

    def note_change(self, data: bytes) -> None:
        """Under the lock: keep what is about to be done, durably, before its first step."""
        return

    def noted_change(self) -> bytes | None:
        """Under the lock: return what a dead holder was about to do, or this one is doing."""
        return None

    def forget_change(self) -> None:
        """Under the lock: what was noted is done."""
        return

    # --- only where a replacement takes more than one step ------------------------------------

    def is_replaced(self, place: str) -> bool:
        """Return whether a replacement of this place is under way, or was cut short."""
        return False

    def unsettled(self) -> bool:
        """Return whether somebody is writing the tables, or died while doing so."""
        return False

    def settle(self) -> list[str]:
        """Under the lock: finish what a dead holder left; the places that it had replaced."""
        return []

    def forget(self, place: str) -> None:
        """Under the lock: the replacement at `place` is wholly done."""
        return
