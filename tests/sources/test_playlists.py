"""Web addresses, listed by the real yt-dlp against a real server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.contracts import Failure, IngestPolicy, TrackRef
from tasks.sources import Row, read_catalog, ytdlp
from tests.sources import server
from tests.sources.conftest import QUICK
from tests.sources.server import Site

ALBUM = """<html><head><title>Album</title></head><body>
<audio src="/media/one.flac"></audio>
<audio><source src="/media/two.mp3" type="audio/mpeg"></audio>
<video src="/media/three.mp4"></video></body></html>"""
SONG = '<html><head><title>Song</title></head><body><audio src="/m/a.mp3"></audio></body></html>'


def refs(*given: str, **options: Any) -> list[TrackRef]:
    items = list(read_catalog(given, **{"policy": QUICK} | options))
    assert [item for item in items if isinstance(item, Failure)] == []
    return [item for item in items if isinstance(item, TrackRef)]


def test_a_page_of_several_tracks_becomes_those_tracks(site: Site) -> None:
    url = site.on("/album", server.page(ALBUM))
    found = refs(url)
    assert sorted(ref.source for ref in found) == [
        f"{site.url}/media/one.flac",
        f"{site.url}/media/three.mp4",
        f"{site.url}/media/two.mp3",
    ]
    assert {ref.kind for ref in found} == {"url"}
    assert [ref.source for ref in refs(url)] == [ref.source for ref in found]
    assert {path for path, _ in site.requests} == {"/album"}


def test_a_row_of_a_playlist_shares_its_artist_but_not_its_title(site: Site, tmp_path: Any) -> None:
    url = site.on("/album", server.page(ALBUM))
    path = tmp_path / "c.csv"
    path.write_text(f"source,title,artist\n{url},Record,Band\n")
    assert {(ref.title, ref.artist) for ref in refs(str(path))} == {("", "Band")}


def test_a_page_with_one_track_stands_for_it(site: Site) -> None:
    url = site.on("/song", server.page(SONG))
    assert [ref.source for ref in refs(url)] == [url]


def test_a_redirect_to_a_playlist_is_followed(site: Site) -> None:
    site.on("/album", server.page(ALBUM))
    assert len(refs(site.on("/short", server.redirect("/album")))) == 3


def test_an_audio_address_costs_no_request(site: Site) -> None:
    url = f"{site.url}/a.flac?token=x"
    assert [ref.source for ref in refs(url)] == [url]
    assert site.requests == []


def test_audio_without_a_suffix_costs_one_small_request(site: Site) -> None:
    url = site.on("/stream", server.endless())
    assert [ref.source for ref in refs(url)] == [url]
    assert site.ranges("/stream") == ["bytes=0-511"]


@pytest.mark.parametrize(
    "url",
    [
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        "https://soundcloud.com/artist/track",
        "https://band.bandcamp.com/track/song",
    ],
)
def test_a_track_of_a_known_site_costs_no_request(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> Iterator[Row]:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(ytdlp, "_listed", refuse)
    assert [ref.source for ref in refs(url)] == [url]


def test_what_cannot_be_listed_passes_as_one_track_for_ingest_to_judge(site: Site) -> None:
    missing = f"{site.url}/none"
    empty = site.on("/about", server.page("<html><body>no music</body></html>"))
    closed = "http://127.0.0.1:9/album"
    assert [ref.source for ref in refs(missing, empty, closed)] == [missing, empty, closed]


def test_a_stream_index_on_the_web_is_one_track_not_a_catalog(site: Site) -> None:
    index = server.file(b"#EXTM3U\n#EXT-X-ENDLIST\n", kind="application/vnd.apple.mpegurl")
    url = site.on("/live.m3u8", index)
    assert [ref.source for ref in refs(url)] == [url]


def test_offline_asks_nothing(site: Site) -> None:
    url = site.on("/album", server.page(ALBUM))
    assert [ref.source for ref in refs(url, policy=IngestPolicy(offline=True))] == [url]
    (failure,) = read_catalog([f"{site.url}/songs.csv"], policy=IngestPolicy(offline=True))
    assert isinstance(failure, Failure)
    assert failure.error_type == "SourceRefused"
    assert site.requests == []


def test_a_catalog_on_the_web_resolves_against_its_address(site: Site) -> None:
    body = b"source,title\naudio/a.flac,A\n/b.flac,B\nfile:///etc/passwd,C\n"
    url = site.on("/lists/songs.csv", server.file(body, kind="text/csv"))
    first, second, refused = read_catalog([url], policy=QUICK)
    assert isinstance(first, TrackRef)
    assert isinstance(second, TrackRef)
    assert first.source == f"{site.url}/lists/audio/a.flac"
    assert second.source == f"{site.url}/b.flac"
    assert first.origin == "songs.csv, line 2"
    assert isinstance(refused, Failure)
    assert "names a file of this machine" in refused.message


@pytest.mark.parametrize(
    ("code", "error", "retryable"),
    [
        (404, "SourceMissing", False),
        (403, "SourceUnreadable", False),
        (429, "RateLimited", True),
        (502, "ServiceError", True),
    ],
)
def test_a_catalog_that_the_server_keeps_is_a_failure(
    site: Site, code: int, error: str, retryable: bool
) -> None:
    (failure,) = read_catalog([site.on("/songs.csv", server.status(code))], policy=QUICK)
    assert isinstance(failure, Failure)
    assert (failure.error_type, failure.retryable) == (error, retryable)


class Channel:
    """yt-dlp's answer to a channel: a tab with a playlist of entries that arrive one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, breaks_after: int = 10**9) -> None:
        self.arrived = 0
        self.breaks_after = breaks_after
        monkeypatch.setattr("yt_dlp.YoutubeDL.extract_info", self.extract_info)

    def extract_info(self, url: str, **_: Any) -> dict[str, Any]:
        tab = f"{url}/videos"
        if url.endswith("/videos"):
            return {"_type": "playlist", "entries": self.entries()}
        return {
            "_type": "playlist",
            "extractor_key": "YoutubeTab",
            "entries": [{"_type": "url", "url": tab, "ie_key": "YoutubeTab"}],
        }

    def entries(self) -> Iterator[dict[str, Any]]:
        for number in itertools.count():
            if number == self.breaks_after:
                raise ConnectionError("reset")
            self.arrived += 1
            watch = f"https://www.youtube.com/watch?v=abcdefgh{number:03d}"
            yield {"_type": "url", "url": watch, "ie_key": "Youtube", "title": f"Song {number}"}


def test_an_endless_channel_is_expanded_only_as_far_as_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel = Channel(monkeypatch)
    found = refs("https://www.youtube.com/@somebody", limit=3)
    assert [ref.title for ref in found] == ["Song 0", "Song 1", "Song 2"]
    assert found[0].source == "https://www.youtube.com/watch?v=abcdefgh000"
    assert channel.arrived == 3


def test_a_channel_that_breaks_off_says_after_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    Channel(monkeypatch, breaks_after=2)
    *found, failure = read_catalog(["https://www.youtube.com/@somebody"])
    assert len(found) == 2
    assert isinstance(failure, Failure)
    assert failure.retryable
    assert "broke off after 2 entries" in failure.message
