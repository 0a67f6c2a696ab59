"""What a download is called: by its tags, its page, its server, its decoded name, in this order."""

from __future__ import annotations

import io
from pathlib import Path

import mutagen
import pytest

from tasks.contracts import TrackRef
from tasks.sources import ingest
from tests.sources import server
from tests.sources.conftest import QUICK, url_ref
from tests.sources.server import Answer, Handler, Site

SONG = """<html><head><title>Page's</title></head><body>
<audio src="/media/one.flac"></audio></body></html>"""


def named(body: bytes, disposition: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.start(
            200,
            Content_Type="audio/flac",
            Content_Length=len(body),
            Content_Disposition=disposition,
        )
        handler.wfile.write(body)

    return answer


@pytest.fixture
def tagged(flac: bytes) -> bytes:
    held = io.BytesIO(flac)
    file = mutagen.File(held)
    file["title"] = "Tag's"
    held.seek(0)
    file.save(held)
    return held.getvalue()


def title_at(url: str, scratch: Path) -> str:
    return ingest(url_ref(url), scratch, QUICK).tags.title


def test_its_own_tags_come_first(site: Site, scratch: Path, tagged: bytes) -> None:
    url = site.on("/name.flac", named(tagged, 'attachment; filename="Server\'s.flac"'))
    assert title_at(url, scratch) == "Tag's"
    site.on("/media/one.flac", server.file(tagged))
    assert title_at(site.on("/song", server.page(SONG)), scratch) == "Tag's"


def test_then_its_page(site: Site, scratch: Path, flac: bytes) -> None:
    site.on("/media/one.flac", named(flac, 'attachment; filename="Server\'s.flac"'))
    assert title_at(site.on("/song", server.page(SONG)), scratch) == "Page's"


@pytest.mark.parametrize(
    ("disposition", "title"),
    [
        ('attachment; filename="My Song.mp3"', "My Song"),
        ("inline; filename=song.flac", "song"),
        (
            "attachment; filename=\"a.mp3\"; filename*=UTF-8''sp%20ace%20%C3%BC%231.mp3",
            "sp ace ü#1",
        ),
        ("attachment; filename*=iso-8859-1'en'%A3%20rates.wav", "£ rates"),
        ('attachment; filename="sp%20ace.mp3"', "sp ace"),
        ('attachment; filename="..\\\\..\\\\etc\\\\passwd.mp3"', "passwd"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
    ],
)
def test_then_what_the_server_calls_it(
    site: Site, scratch: Path, flac: bytes, disposition: str, title: str
) -> None:
    url = site.on("/dl.php", named(flac, disposition))
    assert title_at(f"{url}?id=3", scratch) == title
    assert [path.name for path in scratch.iterdir()] == ["source.php"]


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/sp%20ace%20%C3%BC%231.mp3?token=x", "sp ace ü#1"),
        ("/a/b.c.flac", "b.c"),
        ("/live%0Aset", "live set"),
        ("/dl.php?id=3", ""),
    ],
)
def test_then_its_decoded_name(
    site: Site, scratch: Path, flac: bytes, path: str, title: str
) -> None:
    site.on(path.partition("?")[0], server.file(flac))
    assert title_at(site.url + path, scratch) == title


def test_the_servers_name_outlives_a_broken_download(
    site: Site, scratch: Path, flac: bytes
) -> None:
    def cut(handler: Handler) -> None:
        handler.start(
            200,
            Content_Type="audio/flac",
            Content_Length=len(flac),
            ETag='"v1"',
            Content_Disposition="attachment; filename=Whole.flac",
        )
        handler.wfile.write(flac[:50_000])
        handler.wfile.flush()
        handler.site.closing.wait(0.1)
        handler.reset()

    url = site.on("/dl.php", cut, server.file(flac))
    assert title_at(url, scratch) == "Whole"
    assert site.ranges("/dl.php")[1] == "bytes=50000-"


@pytest.mark.parametrize(
    ("source", "label"),
    [
        ("https://example.org/sp%20ace%20%C3%BC%231.mp3?token=x", "sp ace ü#1.mp3"),
        ("https://example.org/dl.php?id=3", "dl.php"),
        ("https://www.youtube.com/watch?v=abc", "watch?v=abc"),
        ("https://example.org/", "example.org"),
    ],
)
def test_before_it_is_fetched_it_is_called_by_its_decoded_name(source: str, label: str) -> None:
    assert TrackRef(source=source, kind="url").label == label
    assert TrackRef(source="/music/50%25?.flac", kind="file").label == "50%25?.flac"
