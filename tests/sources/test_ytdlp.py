"""Pages and streams, through the real yt-dlp against a real server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.errors import (
    NetworkError,
    NotAudio,
    RateLimited,
    ServiceError,
    SourceMissing,
    SourceRefused,
    SourceUnreadable,
    StemwrightError,
)
from tasks.sources import ingest, ytdlp_download
from tests.sources import server
from tests.sources.conftest import QUICK, left_in, url_ref
from tests.sources.server import Answer, Site

ONCE = QUICK.model_copy(update={"max_retries": 0})

ONE = """<html><head><title>Night Song</title></head><body>
<audio controls src="/media/one.flac"></audio></body></html>"""
NONE = "<html><head><title>About us</title></head><body><p>No music here.</p></body></html>"
TWO = """<html><head><title>Album</title></head><body>
<audio src="/media/one.flac"></audio><audio src="/media/two.flac"></audio></body></html>"""
STREAM = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\na.ts\n#EXTINF:1,\nb.ts\n#EXT-X-ENDLIST\n"


def test_a_page_with_one_track_gives_it_with_the_pages_title(
    site: Site, scratch: Path, flac: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    site.on("/media/one.flac", server.file(flac))
    url = site.on("/song", server.page(ONE))
    got = ingest(url_ref(url), scratch, QUICK)
    assert got.path == scratch / "source.flac"
    assert got.path.read_bytes() == flac
    assert got.tags.title == "Night Song"
    assert got.tags.extra["webpage_url"] == url
    assert got.tags.extra["extractor"] == "html5"
    assert left_in(scratch) == ["source.flac"]
    assert capfd.readouterr() == ("", "")


def test_html_behind_an_audio_name_is_not_audio(site: Site, scratch: Path) -> None:
    url = site.on("/song.mp3", server.page(NONE))
    with pytest.raises(NotAudio, match="answered an HTML page"):
        ingest(url_ref(url), scratch, QUICK)
    assert left_in(scratch) == []


def test_a_page_of_several_tracks_is_not_one_track(site: Site, scratch: Path) -> None:
    url = site.on("/album", server.page(TWO))
    with pytest.raises(NotAudio, match="a list of 2 tracks"):
        ingest(url_ref(url), scratch, QUICK)
    assert left_in(scratch) == []


def test_a_download_that_broke_off_is_resumed_by_yt_dlp(
    site: Site, scratch: Path, flac: bytes
) -> None:
    site.on("/media/one.flac", server.file(flac, cut=60_000), server.file(flac))
    url = site.on("/song", server.page(ONE))
    assert ingest(url_ref(url), scratch, QUICK).path.read_bytes() == flac
    assert re.fullmatch(r"bytes=[1-9]\d{4}-", site.ranges("/media/one.flac")[-1])


def test_a_later_call_resumes_what_was_left(site: Site, scratch: Path, flac: bytes) -> None:
    site.on("/media/one.flac", server.file(flac, cut=60_000), server.file(flac))
    url = site.on("/song", server.page(ONE))
    with pytest.raises(NetworkError):
        ingest(url_ref(url), scratch, ONCE)
    assert left_in(scratch) == ["source.flac.part"]
    assert ingest(url_ref(url), scratch, ONCE).path.read_bytes() == flac
    assert re.fullmatch(r"bytes=[1-9]\d{4}-", site.ranges("/media/one.flac")[-1])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (server.status(404), SourceMissing),
        (server.status(403), SourceUnreadable),
        (server.status(429, Retry_After=60), RateLimited),
        (server.status(500), ServiceError),
        (server.silent, NetworkError),
        (server.file(b""), NetworkError),
    ],
)
def test_yt_dlps_faults_are_ours(
    site: Site, scratch: Path, answer: Answer, error: type[StemwrightError]
) -> None:
    site.on("/media/one.flac", answer)
    url = site.on("/song", server.page(ONE))
    with pytest.raises(error) as caught:
        ingest(url_ref(url, title="Song"), scratch, ONCE)
    assert (caught.value.stage, caught.value.track) == ("ingest", "Song")
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after_s == 60
    assert left_in(scratch) == []


def test_too_many_bytes_behind_a_page_are_refused(site: Site, scratch: Path, flac: bytes) -> None:
    site.on("/media/one.flac", server.file(flac))
    url = site.on("/song", server.page(ONE))
    with pytest.raises(SourceRefused, match="limit of 1,000") as caught:
        ingest(url_ref(url), scratch, QUICK.model_copy(update={"max_bytes": 1000}))
    assert "max_bytes" in caught.value.remedy
    assert left_in(scratch) == []


def test_an_endless_file_behind_a_page_is_cut_at_the_limit(site: Site, scratch: Path) -> None:
    site.on("/media/one.flac", server.endless())
    url = site.on("/song", server.page(ONE))
    with pytest.raises(SourceRefused, match="limit of 100,000"):
        ingest(url_ref(url), scratch, QUICK.model_copy(update={"max_bytes": 100_000}))
    assert left_in(scratch) == []


def test_an_endless_slow_file_behind_a_page_is_cut_at_the_time_limit(
    site: Site, scratch: Path
) -> None:
    site.on("/media/one.flac", server.endless(pause_s=0.05))
    url = site.on("/song", server.page(ONE))
    with pytest.raises(NetworkError, match="longer than 1 s"):
        ingest(url_ref(url), scratch, ONCE.model_copy(update={"timeout_s": 1.0}))


def test_a_stream_of_segments_is_joined(site: Site, scratch: Path, flac: bytes) -> None:
    site.on("/a.ts", server.file(b"A" * 1000, kind="video/mp2t"))
    site.on("/b.ts", server.file(b"B" * 1000, kind="video/mp2t"))
    url = site.on("/live.m3u8", server.file(STREAM, kind="application/vnd.apple.mpegurl"))
    got = ingest(url_ref(url), scratch, QUICK)
    assert got.path.read_bytes() == b"A" * 1000 + b"B" * 1000


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (server.status(404), SourceMissing, "segment b.ts, one of 2, is missing on the server"),
        (server.status(403), SourceUnreadable, "segment b.ts, one of 2, didn't come: .* 403"),
    ],
)
def test_a_segment_that_is_missing_is_called_that(
    site: Site, scratch: Path, answer: Answer, error: type[StemwrightError], says: str
) -> None:
    site.on("/a.ts", server.file(b"A" * 1000, kind="video/mp2t"))
    site.on("/b.ts", answer)
    url = site.on("/live.m3u8", server.file(STREAM, kind="application/vnd.apple.mpegurl"))
    with pytest.raises(error, match=says) as caught:
        ingest(url_ref(url), scratch, ONCE)
    assert type(caught.value) is error
    assert left_in(scratch) == []


def test_a_list_without_a_track_is_called_that(site: Site, scratch: Path) -> None:
    empty = "<rss><channel><title>Show</title></channel></rss>"
    url = site.on("/feed", server.file(empty.encode(), kind="application/rss+xml"))
    with pytest.raises(NotAudio, match="a list with no track in it"):
        ingest(url_ref(url), scratch, ONCE)


@pytest.mark.parametrize(
    ("info", "says"),
    [({"is_live": True}, "live"), ({"duration": 36_000.0}, r"36,000 s.*limit of 14,400 s")],
)
def test_live_and_long_tracks_are_refused_by_their_metadata(
    scratch: Path, info: dict[str, object], says: str
) -> None:
    ydl = ytdlp_download._Downloader(scratch, QUICK, ytdlp_download._Heard())
    video = {"id": "x", "title": "x", "url": "http://127.0.0.1:9/x.mp3", "ext": "mp3", **info}
    with pytest.raises(SourceRefused, match=says):
        ydl.process_ie_result(video | {"extractor": "x", "webpage_url": "x"}, download=True)


def test_metadata_of_music_sites_becomes_tags() -> None:
    tags = ytdlp_download._tags(
        {
            "title": "Band - Song (Official Video)",
            "track": "Song",
            "artists": ["Band", "Guest"],
            "album": "Record",
            "genres": ["Rock"],
            "uploader": "BandVEVO",
            "upload_date": "20240102",
            "duration": 215,
            "extractor": "youtube",
        }
    )
    assert (tags.title, tags.artist, tags.album, tags.genre) == (
        "Song", "Band, Guest", "Record", "Rock",
    )  # fmt: skip
    assert tags.extra == {
        "uploader": "BandVEVO",
        "upload_date": "20240102",
        "duration": "215",
        "extractor": "youtube",
    }
