"""Which table file holds the row of which separation, and which aliases there are."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from hashlib import blake2b

from tasks.errors import ProtocolError
from tasks.recording import tables
from tasks.recording.layout import Key
from tasks.recording.rows import Alias
from tasks.recording.storage import Storage

log = logging.getLogger(__name__)


def digest(*texts: str) -> int:
    """Return eight bytes that stand for some texts: 10^6 of them collide with a chance of 10^-7."""
    joined = "\0".join(texts).encode("utf-8", "backslashreplace")
    return int.from_bytes(blake2b(joined, digest_size=8).digest(), "big")


class RowKeys:
    """A process's view of the tracks table's keys: each file is read once, by its name.

    A file's name never comes back with other keys: rewriting keeps them, a rebuild takes new
    names.
    """

    def __init__(self) -> None:
        self._files: list[str] = []
        self._number: dict[str, int] = {}
        self._of: dict[int, int] = {}

    def refresh(self, store: Storage) -> None:
        """Take in the files that came, and forget those that went."""
        present = tables.files_of(store, "tracks")
        for gone in self._number.keys() - set(present):
            del self._number[gone]
        for file in present:
            if file not in self._number:
                self.add(file, _keys_in(store, file))

    def add(self, file: str, keys: Iterable[Key]) -> None:
        self._number[file] = len(self._files)
        self._files.append(file)
        for key in keys:
            self._of[digest(*key)] = self._number[file]

    def file_of(self, key: Key) -> str | None:
        """Return the place of the file that has the row of `key`."""
        number = self._of.get(digest(*key))
        if number is None or self._files[number] not in self._number:
            return None
        return self._files[number]


class KnownAliases:
    """A process's view of the aliases: each file is read once, by its name."""

    def __init__(self) -> None:
        self._in: dict[str, set[int]] = {}

    def refresh(self, store: Storage) -> None:
        """Take in the files that came, and forget those that went."""
        files = tables.files_of(store, "aliases")
        self._in = {file: self._in.get(file) or _aliases_in(store, file) for file in files}

    def fresh(self, aliases: Iterable[Alias]) -> list[Alias]:
        """Return those that the table doesn't have, each once."""
        by_facts = {digest(*alias.facts): alias for alias in aliases}
        return [
            alias
            for facts, alias in by_facts.items()
            if not any(facts in known for known in self._in.values())
        ]


def _aliases_in(store: Storage, file: str) -> set[int]:
    try:
        found = tables.read(store, "aliases", files=[file]).to_pylist()
    except ProtocolError as error:
        log.warning("%s", error)
        return set()
    return {digest(*Alias.read(row).facts) for row in found}


def _keys_in(store: Storage, file: str) -> list[Key]:
    try:
        found = tables.read(store, "tracks", ["track_id", "separation_id"], [file])
    except ProtocolError as error:
        # One damaged file must not keep a night's work from being recorded.
        log.warning("%s", error)
        return []
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))
