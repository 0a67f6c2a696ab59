"""Feeds and what yt-dlp hides in addresses: titles, dates and authors stay, inner data doesn't."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from yt_dlp.utils import smuggle_url

from tasks.contracts import Failure, TrackRef
from tasks.sources import ingest, read_catalog
from tests.sources import server
from tests.sources.conftest import QUICK, left_in
from tests.sources.server import Answer, Site

INNER = "youtubedl_smuggle"

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"
  xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:media="http://search.yahoo.com/mrss/">
<channel><title>Show</title><itunes:author>Jane Host</itunes:author><image><title>No</title></image>
<item><title>First
  Episode</title><guid>episode-1</guid><pubDate>Tue, 02 Jan 2024 10:00:00 +0200</pubDate>
  <enclosure url="/e/1.mp3?a=1&amp;b=2" type="audio/mpeg" length="1"/></item>
<item><title>Guest</title><author>bob@example.org (Bob)</author><guid>2</guid>
  <media:content url="http://127.0.0.1:9/e/2" medium="audio"/></item>
<item><title>Page</title><dc:creator>Eve</dc:creator><dc:date>2024-03-04T05:06:07Z</dc:date>
  <enclosure url="/cover.png" type="image/png"/><link>/episodes/3</link></item>
<item><title>Only text</title></item>
</channel></rss>"""

ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>Channel</title>
<entry><title>Video</title><author><name>Somebody</name><uri>https://example.org</uri></author>
<link rel="alternate" href="https://www.youtube.com/watch?v=dQw4w9WgXcQ"/>
<published>2024-05-06T00:00:00+00:00</published><content type="html">text</content></entry>
<entry><title>Audio</title><link rel="enclosure" type="audio/ogg" href="a.ogg"/>
<link href="/about"/></entry></feed>"""

XSPF = """<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/">
<title>Favourites</title><creator>A fan</creator><trackList>
<track><location>one.flac</location><title>One</title><creator>Band</creator><album>LP</album></track>
<track><location>file:///etc/passwd</location><title>Not this</title></track>
<track><location>https://example.org/two</location></track></trackList></playlist>"""

LINKED = """<html><head><title>Page</title><script type="application/ld+json">
{"@context": "https://schema.org", "@type": "VideoObject", "name": "Night Song",
"contentUrl": "SITE/media/one.flac"}</script></head><body></body></html>"""


def feed(body: str, kind: str = "application/rss+xml") -> Answer:
    return server.file(body.encode(), kind=kind)


def listed(url: str) -> list[TrackRef]:
    found = list(read_catalog([url], policy=QUICK))
    assert [one for one in found if isinstance(one, Failure)] == []
    return [one for one in found if isinstance(one, TrackRef)]


def refused(url: str) -> Failure:
    (failure,) = read_catalog([url], policy=QUICK)
    assert isinstance(failure, Failure)
    return failure


@pytest.mark.parametrize(
    "kind", ["application/rss+xml", "text/xml", "application/octet-stream", ""]
)
def test_a_feed_keeps_its_titles_dates_and_authors(site: Site, kind: str) -> None:
    first, second, third = listed(site.on("/feed", feed(RSS, kind)))
    assert [each.source for each in (first, second, third)] == [
        f"{site.url}/e/1.mp3?a=1&b=2", "http://127.0.0.1:9/e/2", f"{site.url}/episodes/3",
    ]  # fmt: skip
    assert [each.title for each in (first, second, third)] == ["First Episode", "Guest", "Page"]
    assert [each.artist for each in (first, second, third)] == ["Jane Host", "Bob", "Eve"]
    assert {each.album for each in (first, second, third)} == {"Show"}
    assert [each.extra for each in (first, second, third)] == [
        {"date": "2024-01-02"}, {}, {"date": "2024-03-04"},
    ]  # fmt: skip


def test_an_episode_keeps_what_its_feed_says_of_it_to_the_report(
    site: Site, scratch: Path, flac: bytes
) -> None:
    site.on("/e/1.mp3", server.file(flac, kind="audio/mpeg"))
    first, *_ = listed(site.on("/feed", feed(RSS)))
    assert (first.label, first.key) == (
        "Jane Host – First Episode",
        TrackRef(source=f"{site.url}/e/1.mp3?a=1&b=2", kind="url").key,
    )
    got = ingest(first, scratch, QUICK)
    assert got.path.read_bytes() == flac
    assert INNER not in got.model_dump_json()


def test_an_atom_feed_leads_to_pages_and_to_audio(site: Site) -> None:
    video, audio = listed(site.on("/channel/feed", feed(ATOM, "application/atom+xml")))
    assert (video.source, video.title, video.artist, video.extra) == (
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ", "Video", "Somebody", {"date": "2024-05-06"},
    )  # fmt: skip
    assert (audio.source, audio.title) == (f"{site.url}/channel/a.ogg", "Audio")


def test_a_playlist_in_xml_lists_what_is_on_the_web(site: Site) -> None:
    one, two = listed(site.on("/lists/f", feed(XSPF, "application/xspf+xml")))
    assert (one.source, one.label, one.album) == (f"{site.url}/lists/one.flac", "Band – One", "LP")
    assert (two.source, two.label, two.album) == ("https://example.org/two", "two", "")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (RSS[: RSS.index("<item>")] + "</channel></rss>", "the feed is empty"),
        ("<rss><channel><item><title>A</title></item></channel></rss>", "none of the feed's 1 "),
        (RSS[:-20], "isn't sound XML"),
    ],
)
def test_a_feed_with_nothing_to_fetch_is_called_that(site: Site, body: str, says: str) -> None:
    failure = refused(site.on("/feed", feed(body)))
    assert (failure.error_type, failure.retryable) == ("CatalogError", False)
    assert says in failure.message
    assert failure.source == f"{site.url}/feed"


def test_what_yt_dlp_needs_to_fetch_is_kept_and_never_shown(
    site: Site, scratch: Path, flac: bytes
) -> None:
    page = site.on("/song", server.page(LINKED.replace("SITE", site.url)))
    site.on("/media/one.flac", server.file(flac))
    (ref,) = listed(page)
    assert (ref.source, ref.title) == (f"{site.url}/media/one.flac", "Night Song")
    assert ref.key == TrackRef(source=ref.source, kind="url").key
    site.requests.clear()
    # In another process too: stages are sent what they work on.
    got = ingest(pickle.loads(pickle.dumps(ref)), scratch, QUICK)
    assert {headers.get("referer") for _, headers in site.requests} == {page}
    assert INNER not in got.model_dump_json() + repr(got) + "".join(left_in(scratch))
    assert got.tags.extra["webpage_url"] == ref.source


@pytest.mark.parametrize("name", ["song.flac", "song"])
def test_an_address_with_inner_data_is_the_plain_one(site: Site, name: str) -> None:
    plain = site.on(f"/{name}", server.endless())
    given = smuggle_url(plain, {"force_videoid": "7"})
    assert [ref.source for ref in listed(given)] == [plain]
    assert [ref.address for ref in listed(given)] == [""]


def test_an_error_shows_no_inner_data(site: Site, scratch: Path) -> None:
    page = site.on("/about", server.page("<html><body>no music</body></html>"))
    needed = smuggle_url(page, {"referer": "http://127.0.0.1/"})
    failed = TrackRef(source=page, kind="url", address=needed)
    with pytest.raises(Exception, match="no audio in it") as caught:
        ingest(failed, scratch, QUICK)
    assert INNER not in str(caught.value)
