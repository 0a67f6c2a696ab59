"""http(s) sources: a file is downloaded as it is; whatever isn't one is yt-dlp's matter."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tasks.contracts import IngestPolicy
from tasks.errors import SourceMissing
from tasks.sources import ytdlp
from tasks.sources.download import PageAnswered, download
from tasks.sources.fetched import Fetched


def fetch(url: str, scratch: Path, policy: IngestPolicy) -> Fetched:
    """Fetch the track at a web address.

    Raises:
        StemwrightError: as `tasks.sources.ingest` says.
    """
    _check_url(url)
    if ytdlp.has_own_extractor(url):
        return ytdlp.fetch(url, scratch, policy)
    try:
        return download(url, scratch, policy)
    except PageAnswered:
        return ytdlp.fetch(url, scratch, policy)


def _check_url(url: str) -> None:
    try:
        host = urlsplit(url).hostname
    except ValueError as error:
        raise SourceMissing(f"this isn't a URL: {error}.") from error
    if ytdlp.is_web(url) and (not host or " " in host):
        raise SourceMissing("this isn't a URL: it names no host.")
