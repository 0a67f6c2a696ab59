"""The track behind a page or a stream, with yt-dlp as a library: best audio, as is."""

from __future__ import annotations

import logging
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from yt_dlp.networking.exceptions import HTTPError

from tasks.contracts import IngestPolicy, Tags
from tasks.errors import (
    NotAudio,
    SourceRefused,
    StemwrightError,
    TransientError,
)
from tasks.sources.kinds import Fetched
from tasks.sources.limits import LIMITER, Deadline, check_duration, check_size, retries_in_place
from tasks.sources.smuggled import plain
from tasks.sources.ytdlp_errors import of_segment, translated
from tasks.sources.ytdlp_guarded import GuardedYoutubeDL

log = logging.getLogger(__name__)
_GENERIC = ("Generic", "HTML5MediaEmbed")
_LIVE = ("is_live", "is_upcoming", "post_live")
_EXTRA = (
    "webpage_url",
    "uploader",
    "channel",
    "upload_date",
    "duration",
    "release_year",
    "license",
    "track_number",
)
_SEGMENTS = re.compile(r"Total fragments: (\d+)")
_PARTS = (".part", ".ytdl")
_LARGEST_PAGE_BYTES = 64 * 1024**2
_BLOCK_BYTES = 64 * 1024


def download(url: str, scratch: Path, policy: IngestPolicy) -> Fetched:
    """Download the one track that a page holds; unfinished fragments are resumed.

    Raises:
        StemwrightError: as `tasks.sources.ingest` says.
    """
    heard = _Heard()
    try:
        with _Downloader(scratch, policy, heard) as ydl:
            info = ydl.process_ie_result(_one_track(ydl, url), download=True)
        path = _downloaded(info, scratch, heard, policy)
        return Fetched(path, tags=_tags(info))
    except TransientError:
        _clean(scratch, keep_parts=True)
        raise
    except StemwrightError:
        _clean(scratch, keep_parts=False)
        raise
    except Exception as error:  # extractors raise whatever a changed page makes them raise
        fault = translated(error)
        if heard.segments:
            fault = of_segment(fault, heard.asked_for, heard.segments)
        _clean(scratch, keep_parts=isinstance(fault, TransientError))
        raise fault from error


def _one_track(ydl: Any, url: str) -> dict[str, Any]:
    """The page's track, its formats known; nothing is downloaded yet."""
    info: dict[str, Any] | None = ydl.extract_info(url, download=False)
    for _ in range(3):
        if info is None or info.get("_type") not in ("playlist", "multi_video"):
            break
        entries = [entry for entry in info.get("entries") or () if entry]
        if len(entries) > 1:
            raise NotAudio(
                f"the page is a list of {len(entries)} tracks, not one track.",
                remedy="Run the same command again: as a source of its own it is expanded.",
            )
        if not entries:
            raise NotAudio("it is a list with no track in it.", remedy="Check the URL.")
        info = ydl.process_ie_result(entries[0], download=False)
    if not info:
        raise NotAudio("the server answered an HTML page, and yt-dlp finds no audio in it.")
    return info


def _downloaded(info: dict[str, Any], scratch: Path, heard: _Heard, policy: IngestPolicy) -> Path:
    finished = [path for path in sorted(scratch.glob("source.*")) if path.suffix not in _PARTS]
    if finished:
        return finished[0]
    if "larger than max-filesize" in heard.last:
        size = info.get("filesize") or info.get("filesize_approx") or policy.max_bytes + 1
        check_size(max(int(size), policy.max_bytes + 1), policy)
    raise NotAudio(f"yt-dlp downloaded nothing: {heard.last or 'it gave no reason'}.")


def _clean(scratch: Path, *, keep_parts: bool) -> None:
    for path in scratch.glob("source*"):
        resumable = path.suffix in _PARTS and path.stat().st_size
        if not (keep_parts and resumable):
            path.unlink(missing_ok=True)


def _tags(info: dict[str, Any]) -> Tags:
    title = _listed(info.get("track") or info.get("title"))
    if info.get("extractor_key") in _GENERIC:
        # A bare file has no page: yt-dlp names it by the end of its URL. A page's are numbered.
        title = "" if info.get("direct") else title.removesuffix(" (1)")
    extra = {name: plain(_listed(info[name])) for name in _EXTRA if info.get(name)}
    extra["extractor"] = str(info.get("extractor") or "")
    return Tags(
        title=title,
        artist=_listed(info.get("artists") or info.get("artist") or info.get("creators")),
        album=_listed(info.get("album")),
        genre=_listed(info.get("genres") or info.get("genre")),
        isrc=_listed(info.get("isrc")),
        extra=extra,
    )


def _listed(value: Any) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    text = ", ".join(str(each) for each in values if each)
    return text.encode("utf-8", "replace").decode().strip()


class _Heard:
    """yt-dlp's messages into our log, and what they alone tell.

    The last one says why nothing was downloaded, another of how many segments a stream is.
    """

    def __init__(self) -> None:
        self.last = ""
        self.segments = 0
        self.asked_for = ""

    def debug(self, message: str) -> None:
        message = plain(message)
        if not message.startswith("[debug] "):
            self.last = message.strip()
        if found := _SEGMENTS.search(message):
            self.segments = int(found[1])
        log.debug("%s", message)

    def warning(self, message: str) -> None:
        log.debug("%s", plain(message))

    error = warning


class _Downloader(GuardedYoutubeDL):
    """yt-dlp under the ingest policy: its own retries and throttling, our limits."""

    def __init__(self, scratch: Path, policy: IngestPolicy, heard: _Heard) -> None:
        self._heard = heard
        self._deadline = Deadline(policy)
        self._answers: list[Any] = []
        super().__init__(policy, _options(scratch, policy, heard, self._watch, self._admit))
        self.add_close_hook(self._hang_up)

    def urlopen(self, req: Any) -> Any:
        self._deadline.check()
        url = req if isinstance(req, str) else req.url
        self._heard.asked_for = PurePosixPath(unquote(urlsplit(url).path)).name
        LIMITER.wait(url, self._policy.requests_per_second_per_host)
        try:
            answer = super().urlopen(req)
        except HTTPError as error:
            self._keep(error.response)
            raise
        return _bounded(self._keep(answer), self._deadline, self._policy)

    def _keep(self, answer: Any) -> Any:
        # yt-dlp leaves an answer open that it gives up on, and its connection with it.
        self._answers = [one for one in self._answers if not one.closed] + [answer]
        return answer

    def _hang_up(self) -> None:
        for answer in self._answers:
            answer.close()

    def _watch(self, progress: dict[str, Any]) -> None:
        self._deadline.check()
        check_size(progress.get("downloaded_bytes"), self._policy)
        check_size(progress.get("total_bytes"), self._policy)

    def _admit(self, info: dict[str, Any], *, incomplete: bool) -> None:
        if info.get("is_live") or info.get("live_status") in _LIVE:
            raise SourceRefused(
                "it is a live stream, which has no end.", remedy="Wait for its recording."
            )
        check_duration(info.get("duration"), self._policy)


def _options(
    scratch: Path, policy: IngestPolicy, heard: _Heard, watch: Any, admit: Any
) -> dict[str, Any]:
    return {
        "format": "bestaudio/best",
        "paths": {"home": str(scratch)},
        "outtmpl": {"default": "source.%(ext)s"},
        "noplaylist": True,
        "extract_flat": "in_playlist",
        "postprocessors": [],
        "fixup": "never",
        "logger": heard,
        "quiet": True,
        "noprogress": True,
        "cachedir": False,
        "updatetime": False,
        "continuedl": True,
        "max_filesize": policy.max_bytes,
        "match_filter": admit,
        "progress_hooks": [watch],
        "socket_timeout": policy.stall_timeout_s,
        "retries": policy.max_retries,
        "fragment_retries": policy.max_retries,
        "extractor_retries": policy.max_retries,
        "file_access_retries": 1,
        "skip_unavailable_fragments": False,
        "retry_sleep_functions": {
            kind: lambda n: retries_in_place(policy).wait_s(n)
            for kind in ("http", "fragment", "extractor")
        },
    }


def _bounded(response: Any, deadline: Deadline, policy: IngestPolicy) -> Any:
    """An answer whose body can be read for the download's time, and as a page to 64 MiB."""
    read = response.read

    def read_bounded(amount: int | None = None) -> bytes:
        if amount is not None and amount >= 0:
            deadline.check()
            return bytes(read(amount))
        body = bytearray()
        while True:
            deadline.check()
            block = read(_BLOCK_BYTES)
            if not block:
                return bytes(body)
            body += block
            if len(body) > min(_LARGEST_PAGE_BYTES, policy.max_bytes):
                raise SourceRefused(
                    f"its page goes on after {len(body):,} bytes.", remedy="Check the URL."
                )

    response.read = read_bounded
    return response
