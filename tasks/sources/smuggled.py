"""What yt-dlp hides in addresses for its own use: kept to fetch with, never shown to anybody."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs

_SMUGGLED = re.compile(r"#__youtubedl_smuggle=[^\s'\"<>]*")
_OF_NO_USE = {"force_videoid", "to_generic"}
"""What changes yt-dlp's names for a track, and not how it is fetched."""


def plain(text: str) -> str:
    """Return an address, or a sentence with addresses in it, as people know them."""
    return _SMUGGLED.sub("", text)


def parted(url: str) -> tuple[str, str]:
    """Return an address as people know it, and as yt-dlp needs it where it needs more, or ""."""
    shown = plain(url)
    return shown, url if shown != url and _carried(url) - _OF_NO_USE else ""


def _carried(url: str) -> set[str]:
    try:
        return set(json.loads(parse_qs(url.rpartition("#")[2])["__youtubedl_smuggle"][0]))
    except (ValueError, LookupError, TypeError):
        return set()
