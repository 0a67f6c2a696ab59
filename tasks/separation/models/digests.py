"""SHA-256 of weight files, remembered by path, size and time so that 160 MB is read once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

import platformdirs


def sha256_of(path: Path, *, fresh: bool = False) -> str:
    """A file's SHA-256 in hex.

    Args:
        path: The file.
        fresh: Read the file even if its digest is remembered.
    """
    key, stamp = str(path.resolve()), _stamp(path)
    remembered = _remembered()
    entry = remembered.get(key)
    if not fresh and entry is not None and entry[:2] == stamp:
        return str(entry[2])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _remember({**remembered, key: [*stamp, digest]})
    return digest


def cache_file() -> Path:
    """Where digests are remembered: `weights-sha256.json` among the caches."""
    return cache_home() / "weights-sha256.json"


def cache_home() -> Path:
    """Return where this system keeps what can be made anew: `~/.cache/stemwright` on Linux."""
    return platformdirs.user_cache_path("stemwright")


def _stamp(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def _remembered() -> dict[str, list[int | str]]:
    try:
        entries = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {k: v for k, v in entries.items() if isinstance(v, list) and len(v) == 3}


def _remember(entries: dict[str, list[int | str]]) -> None:
    # A cache that can't be written costs a second of hashing, never a run.
    with contextlib.suppress(OSError):
        target = cache_file()
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(entries, file)
            Path(name).replace(target)
        except OSError:
            Path(name).unlink(missing_ok=True)
