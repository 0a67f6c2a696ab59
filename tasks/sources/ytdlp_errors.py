"""yt-dlp's exceptions, which wrap each other, as errors of the family."""

from __future__ import annotations

import re
from collections.abc import Iterator

from yt_dlp.networking.exceptions import CertificateVerifyError, HTTPError, TransportError
from yt_dlp.utils import (
    ContentTooShortError,
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    UnsupportedError,
)

from tasks.errors import (
    NetworkError,
    NotAudio,
    SourceMissing,
    SourceUnreadable,
    StemwrightError,
    TransientError,
    from_os_error,
)
from tasks.net.http_errors import error_of_connection, error_of_status
from tasks.sources.smuggled import plain

_PREFIX = re.compile(
    r"^ERROR: |\x1b\[[0-9;]*m|; please report this issue on .*$"
    r"|\[download\] Got error: |\. Giving up after \d+ retries",
    re.DOTALL,
)
_STATUS = re.compile(r"HTTP Error (?P<code>[45]\d\d): (?P<reason>[^.]*)")
_SITE_REMEDY = "Open the page in a browser; if it plays there, run `pip install -U yt-dlp`."


def translated(error: BaseException) -> StemwrightError:
    """The error at the root of what yt-dlp raised."""
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, StemwrightError):
            return each
    for each in chain:
        if found := _recognized(each):
            return found
    said = _said(error)
    if any(isinstance(each, ExtractorError) for each in chain):
        return SourceUnreadable(f"the site didn't give out the track: {said}", remedy=_SITE_REMEDY)
    if isinstance(error, DownloadError):
        # After its last retry yt-dlp keeps only the words of what happened.
        if status := _STATUS.search(said):
            return error_of_status(int(status["code"]), status["reason"])
        if "ffmpeg" in said:
            cause = f"the stream needs the program ffmpeg: {said}"
            return SourceUnreadable(cause, remedy="Install ffmpeg, or give the file itself.")
        if "timed out" in said:
            return NetworkError("the download stalled: the server sent nothing for a while.")
        if "any data blocks" in said:
            return NetworkError("the server sent no bytes.")
        return NetworkError(f"the download failed: {said}")
    remedy = "Run `pip install -U yt-dlp`: the site may have changed."
    return SourceUnreadable(f"yt-dlp failed: {type(error).__name__}: {said}", remedy=remedy)


def of_segment(fault: StemwrightError, name: str, segments: int) -> StemwrightError:
    """Return what went wrong with a stream's segment as what it is: the rest of it is there."""
    which = f"the stream's segment {name}, one of {segments},"
    if isinstance(fault, SourceMissing):
        return SourceMissing(
            f"{which} is missing on the server.",
            remedy="Fetch the track from elsewhere, or try later: the stream itself is incomplete.",
        )
    if isinstance(fault, SourceUnreadable | TransientError):
        fault.cause = f"{which} didn't come: {fault.cause}"
    return fault


def _recognized(error: BaseException) -> StemwrightError | None:
    if isinstance(error, HTTPError):
        retry_after = error.response.headers.get("Retry-After") or ""
        return error_of_status(error.status, error.reason or "", retry_after)
    if isinstance(error, UnsupportedError):
        return NotAudio("the server answered an HTML page, and yt-dlp finds no audio in it.")
    if isinstance(error, GeoRestrictedError):
        return SourceUnreadable(
            "the site doesn't give it out in this country.", remedy="Get the file another way."
        )
    if isinstance(error, TransportError | ContentTooShortError | CertificateVerifyError):
        return error_of_connection(error)
    if isinstance(error, OSError):
        return from_os_error(error)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it wraps, outermost first, each once."""
    queue, seen = [error], set[int]()
    while queue:
        each = queue.pop(0)
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        wrapped = getattr(each, "exc_info", None) or (None, None, None)
        queue += [wrapped[1], getattr(each, "cause", None), each.__cause__, each.__context__]
        queue += getattr(each, "unexpected_errors", [])


def _said(error: BaseException) -> str:
    return plain(_PREFIX.sub("", str(error))).strip()[:300] or "it gave no reason"
