"""Folders of this disk, read recursively, in a fixed order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from tasks.errors import CatalogError, from_os_error
from tasks.paths import path_of, text_of
from tasks.sources.kinds import Note, Row, Rows, Source
from tasks.sources.suffixes import NO_AUDIO_REMEDY, is_address, left_out, why_left_out


class Folder(Source):
    """A folder, whatever it is called: the audio files in it, and in those that links lead to."""

    name = "folder"
    track_kind = "file"

    def matches(self, source: str) -> bool:
        if is_address(source):
            return False
        try:
            return os.path.isdir(path_of(source))  # noqa: PTH112  # asked of every row of a catalog
        except ValueError:
            return False

    def needs_network(self, source: str) -> bool:
        return False

    def is_cheap_to_count(self, source: str) -> bool:
        return True

    def expand(self, source: str) -> Rows:
        """Find the audio files: sorted, a folder's own files before its folders', links last."""
        skipped: Counter[str] = Counter()
        found = False
        for item in _walk(path_of(source), skipped):
            found = True
            yield Row(text_of(item)) if isinstance(item, str) else from_os_error(item)
        if skipped:
            yield Note(left_out(skipped))
        if not found:
            yield CatalogError("the folder holds no audio files.", remedy=NO_AUDIO_REMEDY)


def _walk(top: str, skipped: Counter[str]) -> Iterator[str | OSError]:
    """Yield the paths of audio files, and what can't be read; count what is skipped.

    Each folder is read once, by its own name where it has one under `top`: links come last.
    """
    read: set[tuple[int, int]] = set()
    ahead, links = [top], list[str]()
    while ahead or links:
        here = ahead.pop() if ahead else links.pop(0)
        try:
            status = os.stat(here)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in read:
                skipped["read already under another name"] += 1
                continue
            read.add((status.st_dev, status.st_ino))
            with os.scandir(here) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            yield error
            continue
        folders: list[str] = []
        for entry in entries:
            why = why_left_out(entry.name)
            if why != "hidden" and _is_folder(entry):
                (links if entry.is_symlink() else folders).append(entry.path)
            elif why:
                skipped[why] += 1
            else:
                yield entry.path
        ahead += reversed(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
