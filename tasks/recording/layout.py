"""Where things are in a library (`INTERFACES.md`, section 3), and which names are safe there."""

from __future__ import annotations

import re

from tasks.errors import ProtocolError
from tasks.recording.storage_errors import STAGE

REPORT = "report.json"
TRACKS = "tracks"
REPORTS = "reports"
Key = tuple[str, str]
"""A track and a separation: (track_id, separation_id)."""

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,199}")


def place_of(track_id: str, separation_id: str) -> str:
    """Return the folder of a separation, relative to the library.

    Raises:
        ProtocolError: An id that could point outside the library.
    """
    for name in (track_id, separation_id):
        if not _SEGMENT.fullmatch(name):
            raise ProtocolError(f"{name[:80]!r} can't name a folder of the library.", stage=STAGE)
    return f"{TRACKS}/{track_id}/{separation_id}"


def key_of(place: str) -> Key:
    _, track_id, separation_id = place.split("/")
    return track_id, separation_id


def document_of(name: str) -> str:
    """Return the place of a document beside the tables, such as `calibration.json`.

    Raises:
        ProtocolError: A name that could point elsewhere.
    """
    if not all(_SEGMENT.fullmatch(part) for part in name.split("/")):
        raise ProtocolError(f"{name[:80]!r} can't name a document.", stage=STAGE)
    return f"{REPORTS}/{name}"


def slug(text: str, length: int = 40) -> str:
    """Return a text as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:length] or "run"


def is_table_file(name: str) -> bool:
    # What Arrow's readers take for data: hidden and underscored names are somebody's scratch.
    return name.endswith(".parquet") and not name.startswith((".", "_"))
