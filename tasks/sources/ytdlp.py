"""Pages and playlists: what yt-dlp lists for a web address, lazily, and the track of a page."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tasks.contracts import IngestPolicy
from tasks.errors import NetworkError
from tasks.sources.kinds import Fetched, Row, Rows, Source
from tasks.sources.suffixes import is_web

log = logging.getLogger(__name__)

# yt-dlp's own words would stand beside ours for the same fault.
_SILENT = logging.getLogger(f"{__name__}.yt_dlp")
_SILENT.setLevel(logging.CRITICAL + 1)
PAGE_TYPES = ("text/html", "application/xhtml", "text/xml", "application/xml", "application/rss")
PAGE_STARTS = (b"<!doctype html", b"<html")
_LINKS = ("url", "url_transparent")
_FIELDS = ("title", "artist", "album", "genre")
_DEEPEST = 5
_TIMEOUT_S = 20.0


class Ytdlp(Source):
    """An http(s) URL that needn't be audio: the track of a page, or the tracks of a playlist."""

    name = "ytdlp"
    track_kind = "url"

    def matches(self, source: str) -> bool:
        return is_web(source)

    def expand(self, source: str) -> Rows:
        """Find the tracks behind a URL.

        One that a yt-dlp extractor knows as a single track costs no request. A page that can't be
        listed passes as one track, so that ingest (which retries) says what is wrong with it.

        Raises:
            NetworkError: A playlist broke off after some of its entries.
        """
        count = 0
        try:
            for entry in () if _known_single(source) else _listed(source):
                yield entry
                count += 1
        except Exception as error:  # extractors raise whatever a changed page makes them raise
            if count:
                raise NetworkError(
                    f"the playlist broke off after {count} entries: {str(error)[:300]}",
                    remedy="Run the same command again: what is done is skipped.",
                ) from error
            log.info("%s can't be listed, taken as one track: %s", source, error)
        if not count:
            yield Row(source)

    def fetch(self, source: str, scratch: Path, policy: IngestPolicy) -> Fetched:
        """Download the one track that a page holds; unfinished fragments are resumed."""
        from tasks.sources import ytdlp_download

        return ytdlp_download.download(source, scratch, policy)


def has_own_extractor(url: str) -> bool:
    """Tell whether yt-dlp knows the site, or the address is one that only yt-dlp understands."""
    if not is_web(url) or "__youtubedl_smuggle" in url:
        return True
    return bool(_extractor(url).ie_key() != "Generic")


def _listed(url: str) -> Iterator[Row]:
    if _extractor(url).ie_key() == "Generic" and not _is_page(url):
        yield Row(url)
        return
    ydl = _lister()
    with ydl:
        yield from _expand(ydl, {"_type": "url", "url": url}, url, depth=0)


@cache
def _extractors() -> list[Any]:
    from yt_dlp.extractor import gen_extractor_classes

    return [extractor for extractor in gen_extractor_classes() if extractor._ENABLED]


def _extractor(url: str) -> Any:
    return next(extractor for extractor in _extractors() if extractor.suitable(url))


def _known_single(url: str) -> bool:
    return _extractor(url).is_single_video(url) is True


def _is_page(url: str) -> bool:
    """Whether the server answers with a page (one request for its first bytes)."""
    import httpx

    headers = {"Range": "bytes=0-511", "Accept-Encoding": "identity"}
    with httpx.stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=_TIMEOUT_S
    ) as response:
        if response.status_code >= 400:
            return False
        kind = response.headers.get("content-type", "").lower()
        if kind.startswith(PAGE_TYPES):
            return True
        if kind and not kind.startswith("text/plain"):
            return False
        start = next(response.iter_bytes(512), b"")
        return start.lstrip().lower().startswith(PAGE_STARTS)


def _lister() -> Any:
    from yt_dlp import YoutubeDL

    return YoutubeDL(
        {
            "quiet": True,
            "no_warnings": True,
            "logger": _SILENT,
            "noprogress": True,
            "extract_flat": True,
            "lazy_playlist": True,
            "noplaylist": False,
            "cachedir": False,
            "socket_timeout": _TIMEOUT_S,
            "retries": 3,
            "extractor_retries": 3,
            "sleep_interval_requests": 0.25,
        }
    )


def _expand(ydl: Any, link: dict[str, Any], page: str, depth: int) -> Iterator[Row]:
    """The tracks behind a link; redirects are followed, lists opened as they are reached."""
    result: dict[str, Any] | None = link
    for _ in range(_DEEPEST):
        if result is None or result.get("_type") not in _LINKS:
            break
        if result is not link and _is_single(ydl, result):
            yield Row(_address(result), fields=_fields(result))
            return
        result = ydl.extract_info(
            result["url"], ie_key=result.get("ie_key"), download=False, process=False
        )
    if result is None:
        return
    if result.get("_type") != "playlist":
        yield Row(result.get("webpage_url") or page)
        return
    parent = str(result.get("extractor_key") or "")
    for entry in filter(None, _one_by_one(result.get("entries") or ())):
        if depth < _DEEPEST and _is_list(ydl, entry, parent):
            yield from _expand(ydl, entry, page, depth + 1)
        else:
            yield Row(_address(entry), fields=_fields(entry))


def _is_list(ydl: Any, entry: dict[str, Any], parent: str) -> bool:
    """Whether an entry of a list is itself one, by all that is known without loading it."""
    if entry.get("_type") not in _LINKS:
        return entry.get("_type") == "playlist"
    single = _is_single(ydl, entry)
    # Where yt-dlp can't tell, a link to the list's own extractor is a tab of a channel.
    return single is False or (single is None and entry.get("ie_key") == parent != "Generic")


def _one_by_one(entries: Any) -> Iterator[dict[str, Any]]:
    """Entries as their pages arrive; unlike yt-dlp's own loop it keeps none that were passed on."""
    from yt_dlp.utils import PagedList

    if not isinstance(entries, PagedList):
        yield from entries
        return
    position = 0
    while entry := entries.getslice(position, position + 1):
        yield entry[0]
        position += 1


def _is_single(ydl: Any, link: dict[str, Any]) -> bool | None:
    """Whether a link leads to one track; False for a list, None if unknown."""
    key = link.get("ie_key")
    extractor = ydl.get_info_extractor(key) if key else _extractor(link["url"])
    single: bool | None = extractor.is_single_video(link["url"])
    return single


def _address(entry: dict[str, Any]) -> str:
    """The same address in every run: the track's own page, else the file."""
    if entry.get("webpage_url"):
        return str(entry["webpage_url"])
    if entry.get("_type") in _LINKS:
        url = str(entry["url"])
        bare_youtube_id = entry.get("ie_key") == "Youtube" and not is_web(url)
        return f"https://www.youtube.com/watch?v={url}" if bare_youtube_id else url
    formats = entry.get("formats") or [entry]
    audio_only = [f for f in formats if f.get("vcodec") == "none"]
    best = (audio_only or formats)[0]
    return str(best.get("manifest_url") or best["url"])


def _fields(entry: dict[str, Any]) -> dict[str, str]:
    # Only a site's own extractor knows titles; the generic one numbers the page's.
    if entry.get("_type") not in _LINKS or not entry.get("ie_key"):
        return {}
    return {name: str(entry[name]) for name in _FIELDS if entry.get(name)}
