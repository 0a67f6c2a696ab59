"""Pages and playlists: what yt-dlp lists for a web address, lazily, and the track of a page."""

from __future__ import annotations

import codecs
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks.contracts import IngestPolicy
from tasks.errors import NetworkError, StemwrightError
from tasks.sources import feeds
from tasks.sources.kinds import Fetched, Row, Rows, Source
from tasks.sources.smuggled import parted, plain
from tasks.sources.suffixes import is_audio, is_web

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

# yt-dlp's own words would stand beside ours for the same fault.
_SILENT = logging.getLogger(f"{__name__}.yt_dlp")
_SILENT.setLevel(logging.CRITICAL + 1)
PAGE_TYPES = ("text/html", "application/xhtml", "text/xml", "application/xml", "application/rss")
PAGE_STARTS = (b"<!doctype html", b"<html")
_XML_STARTS = (b"<?xml", b"<rss", b"<feed")
_UNTYPED = ("text/", "application/octet-stream", "binary/")
_LARGEST_FEED_BYTES = 64 * 1024**2
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
            for entry in () if _known_single(source) else _listed(source, self.policy):
                yield entry
                count += 1
        except Exception as error:  # extractors raise whatever a changed page makes them raise
            if count:
                raise NetworkError(
                    f"the playlist broke off after {count} entries: {plain(str(error))[:300]}",
                    remedy="Run the same command again: what is done is skipped.",
                ) from error
            log.info("%s can't be listed, taken as one track: %s", source, plain(str(error)))
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


def _listed(url: str, policy: IngestPolicy) -> Rows:
    ydl = _lister(policy)
    with ydl:
        if _extractor(url).ie_key() == "Generic":
            answer = _look(url, policy)
            if answer == "xml" and feeds.is_feed(document := _document(url, policy)):
                yield from _of_feed(ydl, document)
                return
            if not answer:
                yield Row(url)
                return
        yield from _expand(ydl, {"_type": "url", "url": url}, url, depth=0)


def _of_feed(ydl: Any, document: feeds.Document) -> Rows:
    try:
        for row in feeds.tracks_of(document):
            link = {"_type": "url", "url": row.source}
            if not is_audio(row.source) and _is_list(ydl, link, ""):
                yield from _expand(ydl, link, row.source, depth=1)
            else:
                yield row
    except StemwrightError as error:
        yield error


@cache
def _extractors() -> list[Any]:
    from yt_dlp.extractor import gen_extractor_classes

    return [extractor for extractor in gen_extractor_classes() if extractor._ENABLED]


def _extractor(url: str) -> Any:
    return next(extractor for extractor in _extractors() if extractor.suitable(url))


def _known_single(url: str) -> bool:
    return _extractor(url).is_single_video(url) is True


def _look(url: str, policy: IngestPolicy) -> Literal["", "page", "xml"]:
    """What the server answers with, as far as it can be listed (one request for its start)."""
    with _asked(url, policy, {"Range": "bytes=0-511"}) as response:
        if response.status_code >= 400:
            return ""
        kind = response.headers.get("content-type", "").lower()
        if not kind or kind.startswith((*_UNTYPED, *PAGE_TYPES)) or "xml" in kind:
            start = next(response.iter_bytes(512), b"").removeprefix(codecs.BOM_UTF8)
            if start.lstrip().lower().startswith(_XML_STARTS):
                return "xml"
            if kind.startswith(PAGE_TYPES) or start.lstrip().lower().startswith(PAGE_STARTS):
                return "page"
        return ""


def _document(url: str, policy: IngestPolicy) -> feeds.Document:
    with _asked(url, policy, {}) as response:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > _LARGEST_FEED_BYTES:
                break
        return feeds.Document(str(response.url), bytes(body))


@contextmanager
def _asked(url: str, policy: IngestPolicy, headers: dict[str, str]) -> Iterator[httpx.Response]:
    from tasks.net.addresses import client

    headers = {"Accept-Encoding": "identity", **headers}
    with (
        client(policy, headers=headers, timeout=_TIMEOUT_S) as web,
        web.stream("GET", url) as answer,
    ):
        yield answer


def _lister(policy: IngestPolicy) -> Any:
    from tasks.sources.ytdlp_guarded import GuardedYoutubeDL

    return GuardedYoutubeDL(
        policy,
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
        },
    )


def _expand(ydl: Any, link: dict[str, Any], page: str, depth: int) -> Iterator[Row]:
    """The tracks behind a link; redirects are followed, lists opened as they are reached."""
    result: dict[str, Any] | None = link
    fields: dict[str, str] = {}
    for _ in range(_DEEPEST):
        if result is None or result.get("_type") not in _LINKS:
            break
        fields = _fields(result) | fields
        if result is not link and _is_single(ydl, result):
            yield _row(_address(result), fields)
            return
        result = ydl.extract_info(
            result["url"], ie_key=result.get("ie_key"), download=False, process=False
        )
    if result is None:
        return
    if result.get("_type") != "playlist":
        yield _row(result.get("webpage_url") or page, fields)
        return
    parent = str(result.get("extractor_key") or "")
    for entry in filter(None, _one_by_one(result.get("entries") or ())):
        if depth < _DEEPEST and _is_list(ydl, entry, parent):
            yield from _expand(ydl, entry, page, depth + 1)
        else:
            yield _row(_address(entry), _fields(entry))


def _row(address: str, fields: dict[str, str]) -> Row:
    source, needed = parted(address)
    return Row(source, fields=fields, address=needed)


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
    # A site's own extractor knows titles, and so does what yt-dlp says of a link in the stead of
    # what is behind it; those of files in a page are the page's, numbered.
    known = entry.get("_type") == "url" and entry.get("ie_key")
    if not known and entry.get("_type") != "url_transparent":
        return {}
    return {name: str(entry[name]) for name in _FIELDS if entry.get(name)}
