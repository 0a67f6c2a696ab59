"""The library: finished separations, committed whole, and the Parquet tables over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.recording.index import Alias, LibraryIndex
    from tasks.recording.library import Library

__all__ = ["Alias", "Library", "LibraryIndex"]

_HOMES = {"Alias": "index", "Library": "library", "LibraryIndex": "index"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"tasks.recording.{_HOMES[name]}"), name)
