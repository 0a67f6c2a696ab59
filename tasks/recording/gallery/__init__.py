"""The gallery: one HTML file to look at and listen to a library's separations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.recording.gallery.flagged import flagged_picture
    from tasks.recording.gallery.options import AudioChoice, GalleryOptions
    from tasks.recording.gallery.writing import Written, write_gallery

__all__ = ["AudioChoice", "GalleryOptions", "Written", "flagged_picture", "write_gallery"]

_HOMES = {
    "AudioChoice": "options",
    "GalleryOptions": "options",
    "Written": "writing",
    "flagged_picture": "flagged",
    "write_gallery": "writing",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"tasks.recording.gallery.{_HOMES[name]}"), name)
