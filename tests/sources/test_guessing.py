"""Artist and title by a file's name: where nothing else tells them, and marked as guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contracts import IngestPolicy, Tags, TrackRef
from tasks.sources import ingest
from tasks.sources.guessing import guess
from tests.flows.studio import write_track
from tests.sources.conftest import QUICK, url_ref
from tests.sources.server import Site
from tests.sources.test_titles import named


@pytest.mark.parametrize(
    ("name", "artist", "title"),
    [
        ("Nina Simone - Sinnerman", "Nina Simone", "Sinnerman"),
        ("Jean-Michel Jarre – Oxygène 4", "Jean-Michel Jarre", "Oxygène 4"),
        ("01 - Artist - Title", "Artist", "Title"),
        ("12. Artist - Title", "Artist", "Title"),
        ("07 Artist - Title", "Artist", "Title"),
        ("50 Cent - In da Club", "50 Cent", "In da Club"),
        ("311 - Amber", "311", "Amber"),
        ("The_Band_-_The_Weight", "The Band", "The Weight"),
        # Names that don't say it.
        ("07 - Title", "", ""),
        ("Artist - Album - Title", "", ""),
        ("Sinnerman", "", ""),
        ("well-tempered", "", ""),
        (" - Title", "", ""),
    ],
)
def test_a_name_of_two_parts(name: str, artist: str, title: str) -> None:
    assert guess(name) == (artist, title)


def tags_of(path: Path, **known: str) -> Tags:
    ref = TrackRef(source=str(path), kind="file", **known)
    return ingest(ref, path.parent, IngestPolicy()).tags


def test_an_untagged_file_s_is_marked_as_guessed(tmp_path: Path) -> None:
    tags = tags_of(write_track(tmp_path / "Band - Song. Part 2.flac"))
    assert (tags.artist, tags.title) == ("Band", "Song. Part 2")
    assert tags.guessed == ("artist", "title")


def test_the_name_that_a_server_gives_counts(site: Site, scratch: Path, flac: bytes) -> None:
    url = site.on("/17", named(flac, 'attachment; filename="Band - Song.flac"'))
    tags = ingest(url_ref(url), scratch, QUICK).tags
    assert (tags.artist, tags.title, tags.guessed) == ("Band", "Song", ("artist", "title"))


@pytest.mark.parametrize("tag", ["artist", "title"])
def test_tags_that_say_something_of_it_are_not_added_to(tmp_path: Path, tag: str) -> None:
    tags = tags_of(write_track(tmp_path / "Band - Song.flac", **{tag: "Own"}))
    assert (tags.artist + tags.title, tags.guessed) == ("Own", ())


@pytest.mark.parametrize("column", ["artist", "title"])
def test_nor_is_what_the_catalog_says(tmp_path: Path, column: str) -> None:
    path = write_track(tmp_path / "Band - Song.flac")
    assert tags_of(path, **{column: "Given"}) == Tags()
