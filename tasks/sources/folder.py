"""Folders of this disk, read recursively, in a fixed order."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.errors import CatalogError, from_os_error
from tasks.sources.kinds import Row, Rows, Source
from tasks.sources.suffixes import NO_AUDIO_REMEDY, is_address, is_audio, is_visible_audio


class Folder(Source):
    """A folder: the audio files in it."""

    name = "folder"
    track_kind = "file"

    def matches(self, source: str) -> bool:
        return not is_audio(source) and not is_address(source) and Path(source).is_dir()

    def needs_network(self, source: str) -> bool:
        return False

    def is_cheap_to_count(self, source: str) -> bool:
        return True

    def expand(self, source: str) -> Rows:
        """Find the audio files: sorted, a folder's own files before its folders'."""
        errors: list[OSError] = []
        found = False
        for here, folders, files in os.walk(source, onerror=errors.append):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(filter(is_visible_audio, files)):
                found = True
                yield Row(str(Path(here, name)))
            while errors:
                found = True
                yield from_os_error(errors.pop())
        if errors:
            yield from_os_error(errors.pop())
        elif not found:
            yield CatalogError("the folder holds no audio files.", remedy=NO_AUDIO_REMEDY)
