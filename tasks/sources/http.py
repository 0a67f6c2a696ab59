"""Files over HTTP into scratch: resumed by byte range, bounded in size, time and stalls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tasks.contracts import IngestPolicy
from tasks.errors import NetworkError, SourceMissing, SourceRefused
from tasks.net.http_errors import check_status, httpx_errors
from tasks.sources import ytdlp
from tasks.sources.kinds import Fetched, Source
from tasks.sources.limits import LIMITER, Deadline, check_size
from tasks.sources.partial_download import Part, Version, fetch_into
from tasks.sources.suffixes import is_audio, is_web

if TYPE_CHECKING:
    import httpx

_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<total>\d+|\*)")
_WHOLE = re.compile(r"bytes \*/(?P<total>\d+)")
_STREAM_TYPES = (
    "application/dash+xml",
    "application/vnd.apple.mpegurl",
    "application/x-mpegurl",
    "audio/mpegurl",
    "audio/x-mpegurl",
)
_EXTENDED = re.compile(r"filename\*\s*=\s*(utf-8|iso-8859-1)'[^']*'([^;\s]+)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_HEADERS = {
    "Accept-Encoding": "identity",
    "Accept": "audio/*,*/*;q=0.8",
    "User-Agent": "stemwright",
}


class Http(Source):
    """An http(s) URL of audio; what turns out to be a page or a stream's index is yt-dlp's."""

    name = "url"

    def matches(self, source: str) -> bool:
        return is_web(source) and is_audio(source)

    def is_cheap_to_count(self, source: str) -> bool:
        return is_audio(source)

    def fetch(self, source: str, scratch: Path, policy: IngestPolicy) -> Fetched:
        """Fetch a file; a part of the same version that lies in `scratch` is continued."""
        pages = ytdlp.Ytdlp()
        _check_url(source)
        if ytdlp.has_own_extractor(source):
            return pages.fetch(source, scratch, policy)
        part = Part(scratch, source)
        try:
            with _client(policy) as client:
                return fetch_into(part, lambda left: _attempt(client, part, policy, left), policy)
        except PageAnswered:
            return pages.fetch(source, scratch, policy)


class PageAnswered(Exception):
    """The server answered a page or a stream's index."""


def _check_url(url: str) -> None:
    try:
        host = urlsplit(url).hostname
    except ValueError as error:
        raise SourceMissing(f"this isn't a URL: {error}.") from error
    if is_web(url) and (not host or " " in host):
        raise SourceMissing("this isn't a URL: it names no host.")


def _client(policy: IngestPolicy) -> httpx.Client:
    from tasks.net.addresses import client

    def before(request: httpx.Request) -> None:
        if request.url.scheme not in ("http", "https"):
            raise SourceRefused(f"it redirects to {request.url.scheme}://.", remedy="Check it.")
        LIMITER.wait(str(request.url), policy.requests_per_second_per_host)

    return client(policy, headers=_HEADERS, event_hooks={"request": [before]})


def _attempt(client: httpx.Client, part: Part, policy: IngestPolicy, deadline: Deadline) -> Version:
    with httpx_errors(), _open(client, part, policy, deadline) as response:
        if response.status_code == 416:
            return _after_416(response, part)
        check_status(response)
        if _is_page(response):
            raise PageAnswered
        version = _place(response, part)
        check_size(version.total, policy)
        part.append(_body(response, is_new=not part.size), policy, deadline)
        return version


def _open(
    client: httpx.Client, part: Part, policy: IngestPolicy, deadline: Deadline
) -> AbstractContextManager[httpx.Response]:
    import httpx

    timeout = httpx.Timeout(min(policy.stall_timeout_s, max(deadline.left_s, 0.01)))
    headers = {}
    if version := part.version:
        headers["Range"] = f"bytes={part.size}-"
        strong = version.etag if not version.etag.startswith("W/") else ""
        if mark := strong or version.modified:
            headers["If-Range"] = mark
    return client.stream("GET", part.url, headers=headers, timeout=timeout)


def _place(response: httpx.Response, part: Part) -> Version:
    """Make the part ready for this answer's bytes: kept for a fitting range, else emptied.

    Raises:
        NetworkError: the range doesn't fit the part, which is emptied for another attempt.
    """
    total, start = _extent(response)
    version = Version(
        url=part.url,
        total=total,
        etag=response.headers.get("etag", ""),
        modified=response.headers.get("last-modified", ""),
        name=_name_of(response) or _name_in(part.url),
    )
    if start == 0:
        part.begin(version)
        return version
    before = part.version
    if before is None or start != part.size or not version.continues(before):
        part.discard()
        raise NetworkError("the file changed while it was downloaded.")
    return replace(version, name=before.name)


def _name_of(response: httpx.Response) -> str:
    """What `Content-Disposition` calls the file (RFC 6266), less its suffix."""
    header = Message()
    header["Content-Disposition"] = response.headers.get("content-disposition", "")
    params = dict(header.get_params([], "content-disposition"))
    extended = _EXTENDED.search(response.headers.get("content-disposition", ""))
    name = unquote(extended[2], extended[1], "replace") if extended else params.get("filename", "")
    return PurePosixPath(_plain(unquote(str(name)))).stem


def _name_in(url: str) -> str:
    """What a URL calls the file, less its suffix; nothing where it is a program's, as `dl.php`."""
    name = PurePosixPath(_plain(unquote(urlsplit(url).path.rsplit("/", 1)[-1])))
    return "" if name.suffix and not is_audio(name.name) else name.stem


def _plain(name: str) -> str:
    return _CONTROL.sub(" ", name.replace("\\", "/").rsplit("/", 1)[-1]).strip()[:1000]


def _extent(response: httpx.Response) -> tuple[int | None, int]:
    """The whole file's size, if the server says, and where in it the answer's bytes begin."""
    if response.status_code == 206:
        match = _RANGE.fullmatch(response.headers.get("content-range", "").strip())
        if match is None:
            raise NetworkError("the server answered a range without saying which.")
        return (None if match["total"] == "*" else int(match["total"])), int(match["start"])
    length = response.headers.get("content-length", "")
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    return (int(length) if length.isdigit() and not encoded else None), 0


def _body(response: httpx.Response, *, is_new: bool) -> Iterator[bytes]:
    for chunk in response.iter_bytes():
        if is_new and _looks_like_page(chunk, response):
            raise PageAnswered
        is_new = False
        yield chunk


def _after_416(response: httpx.Response, part: Part) -> Version:
    """No bytes past the part's end: it is whole, or it is of something else by now."""
    match = _WHOLE.fullmatch(response.headers.get("content-range", "").strip())
    version = part.version
    if version and match and int(match["total"]) == part.size == (version.total or part.size):
        return version
    part.discard()
    raise NetworkError("the file changed while it was downloaded.")


def _is_page(response: httpx.Response) -> bool:
    kind = response.headers.get("content-type", "").lower()
    return bool(kind.startswith((*ytdlp.PAGE_TYPES, *_STREAM_TYPES)))


def _looks_like_page(start: bytes, response: httpx.Response) -> bool:
    kind = response.headers.get("content-type", "").lower()
    declared_audio = kind.startswith(("audio/", "video/")) and not start.startswith(b"#EXTM3U")
    return not declared_audio and start.lstrip()[:32].lower().startswith(
        (*ytdlp.PAGE_STARTS, b"#extm3u")
    )
