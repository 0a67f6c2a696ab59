"""Audio files of folders, globs and prefixes, on disk and on object stores, in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.errors import CatalogError, StemwrightError, from_os_error
from tasks.sources.opening import filesystem, passed_on
from tasks.sources.suffixes import AUDIO_SUFFIXES, is_glob, is_visible_audio, suffix_of

_NOTHING_REMEDY = "Put audio in it (WAV, FLAC, MP3, M4A, Ogg, Opus, AIFF, …) or name another."


def audio_of_folder(folder: str) -> Iterator[str | StemwrightError]:
    """Paths of the audio files under a folder: sorted, a folder's own files before its folders'."""
    errors: list[OSError] = []
    found = False
    for here, folders, files in os.walk(folder, onerror=errors.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(filter(is_visible_audio, files)):
            found = True
            yield str(Path(here, name))
        while errors:
            found = True
            yield from_os_error(errors.pop())
    if errors:
        yield from_os_error(errors.pop())
    elif not found:
        yield CatalogError("the folder holds no audio files.", remedy=_NOTHING_REMEDY)


def audio_of_objects(url: str) -> Iterator[str | StemwrightError]:
    """URLs of the audio files that an fsspec URL names: a file, a prefix, or a glob."""
    if "::" in url or (suffix_of(url) in AUDIO_SUFFIXES and not is_glob(url)):
        yield url
        return
    found = False
    try:
        fs, path = filesystem(url)
        if is_glob(path):
            names: Iterator[str] = iter(sorted(fs.glob(path)))
        elif fs.isdir(path):
            names = _walk(fs, path)
        else:
            yield url
            return
        for name in names:
            if is_visible_audio(name.rsplit("/", 1)[-1]):
                found = True
                yield str(fs.unstrip_protocol(name))
    except Exception as error:  # drivers raise their vendors' own types
        yield passed_on(error, "folder at this URL")
        return
    if not found:
        yield CatalogError("nothing there is an audio file.", remedy=_NOTHING_REMEDY)


def _walk(fs: Any, path: str) -> Iterator[str]:
    for here, folders, files in fs.walk(path, on_error="raise"):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            yield f"{here.rstrip('/')}/{name}"
