"""Files, stdin and object stores as sources."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tasks.contracts import Failure, IngestPolicy, TrackRef
from tasks.sources import read_catalog


def sources(*given: object, **options: object) -> list[str]:
    items = list(read_catalog([str(source) for source in given], **options))  # type: ignore[arg-type]
    assert [item for item in items if isinstance(item, Failure)] == []
    return [item.source for item in items]


def only_failure(source: object, **options: object) -> Failure:
    (failure,) = read_catalog([str(source)], **options)  # type: ignore[arg-type]
    assert isinstance(failure, Failure)
    assert failure.stage == "catalog"
    return failure


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    fs = fsspec.filesystem("memory")
    for name in ("b.flac", "a.mp3", "cover.jpg", ".hidden.mp3", "sub/c.wav", ".trash/d.wav"):
        fs.pipe(f"/bucket/music/{name}", b"x")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def test_a_file_becomes_absolute_whether_it_exists_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").touch()
    assert sources("a.wav", "none/b.mp3") == [
        str(tmp_path / "a.wav"),
        str(tmp_path / "none/b.mp3"),
    ]


def test_two_files_of_one_name_in_two_folders_are_two_tracks(tmp_path: Path) -> None:
    items = list(read_catalog([str(tmp_path / "x/a.wav"), str(tmp_path / "y/a.wav")]))
    assert len({item.key for item in items if isinstance(item, TrackRef)}) == 2


def test_a_row_may_name_a_folder_whose_tracks_share_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    for name in ("1.wav", "2.wav"):
        (tmp_path / "album" / name).touch()
    (tmp_path / "c.csv").write_text("source,title,artist,isrc,label\nalbum,Record,Band,X,Own\n")
    for item in read_catalog([str(tmp_path / "c.csv")]):
        assert isinstance(item, TrackRef)
        assert (item.title, item.artist, item.isrc) == ("", "Band", "")
        assert item.extra == {"label": "Own"}


def test_stdin_has_one_source_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stdin = io.StringIO("a.wav\n\n# comment\nhttps://example.org/b.mp3\n-\n")
    assert sources("-", stdin=stdin) == [str(tmp_path / "a.wav"), "https://example.org/b.mp3"]


def test_file_urls_are_files(tmp_path: Path) -> None:
    (item,) = read_catalog([f"file://{tmp_path}/with%20space.wav"])
    assert isinstance(item, TrackRef)
    assert (item.source, item.kind) == (str(tmp_path / "with space.wav"), "file")


@pytest.mark.parametrize("url", ["memory://bucket/music", "memory://bucket/music/"])
def test_a_prefix_is_walked_like_a_folder(store: MemoryFileSystem, url: str) -> None:
    assert sources(url) == [
        "memory:///bucket/music/a.mp3",
        "memory:///bucket/music/b.flac",
        "memory:///bucket/music/sub/c.wav",
    ]
    assert {item.kind for item in read_catalog([url]) if isinstance(item, TrackRef)} == {"fsspec"}


def test_a_glob_gives_the_audio_that_it_matches(store: MemoryFileSystem) -> None:
    assert sources("memory://bucket/music/*.*") == [
        "memory:///bucket/music/a.mp3",
        "memory:///bucket/music/b.flac",
    ]
    assert "nothing there" in only_failure("memory://bucket/music/*.ogg").message


def test_one_object_costs_no_look_at_the_store() -> None:
    assert sources("s3://no-such-bucket/a.flac") == ["s3://no-such-bucket/a.flac"]


def test_a_catalog_on_a_store_resolves_against_its_folder(store: MemoryFileSystem) -> None:
    store.pipe(
        "/bucket/list.csv",
        b"source\nmusic/a.mp3\n/etc/passwd\nfile:///etc/passwd\nzip::local:///x.zip\n",
    )
    first, *refused = read_catalog(["memory://bucket/list.csv"])
    assert isinstance(first, TrackRef)
    assert (first.source, first.kind) == ("memory://bucket/music/a.mp3", "fsspec")
    assert first.origin == "list.csv, line 2"
    for item in refused:
        assert isinstance(item, Failure)
        assert "names a file of this machine" in item.message
    assert len(refused) == 3


def test_a_missing_catalog_or_driver_or_scheme_is_a_failure(
    store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert only_failure("memory://bucket/none.csv").error_type == "SourceMissing"
    assert only_failure("nonsense://bucket/").error_type == "CatalogError"

    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    failure = only_failure("s3://bucket/music/")
    assert (failure.error_type, failure.remedy) == ("SettingsError", "Run `pip install s3fs`.")


OFFLINE = IngestPolicy(offline=True)


def test_offline_touches_no_store() -> None:
    assert sources("s3://bucket/music/", policy=OFFLINE) == ["s3://bucket/music/"]
    assert "offline" in only_failure("s3://bucket/list.csv", policy=OFFLINE).message


def test_a_url_that_is_none_is_a_failure() -> None:
    assert "isn't a URL" in only_failure("http://[::1/a.mp3").message


def test_a_blank_source_is_a_failure() -> None:
    assert only_failure(" ").message == "the source is blank."
