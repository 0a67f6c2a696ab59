"""Folders as they are: what is in them, in a fixed order, and what is left out."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tasks.contracts import Failure, TrackRef
from tasks.sources import read_catalog


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def tracks(source: object, folder: Path) -> list[str]:
    """The names of a source's tracks, relative to a folder."""
    items = list(read_catalog([str(source)]))
    assert [item for item in items if isinstance(item, Failure)] == []
    return [os.path.relpath(item.source, folder) for item in items]


def test_a_folder_s_own_files_come_first_and_what_is_left_out_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "b.MP3", "a.flac", "cover.jpg", "notes.txt", "._a.flac", "z/c.wav", ".git/d.wav")
    with caplog.at_level(logging.INFO):
        assert tracks(tmp_path, tmp_path) == ["a.flac", "b.MP3", "z/c.wav"]
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == f"{tmp_path}: left out: 2 hidden, 2 without an audio suffix."


def test_of_a_store_it_is_counted_too(caplog: pytest.LogCaptureFixture) -> None:
    fs = MemoryFileSystem()
    for name in ("a.mp3", "cover.jpg", ".b.mp3", ".trash/c.wav"):
        fs.pipe(f"/counted/{name}", b"x")
    try:
        with caplog.at_level(logging.INFO):
            assert len(list(read_catalog(["memory://counted"]))) == 1
            assert len(list(read_catalog(["memory://counted"], quiet=True))) == 1
    finally:
        fs.rm("/counted", recursive=True)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == "memory://counted: left out: 2 hidden, 1 without an audio suffix."


def test_links_to_folders_are_followed_and_each_folder_is_read_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "music/own/a.wav", "elsewhere/b.wav", "elsewhere/deep/c.wav")
    links = {
        "again": tmp_path / "music/own",  # sorts before it, and yet the folder's own name stands
        "friend": tmp_path / "elsewhere",
        "own/loop": tmp_path / "music",
        "itself": tmp_path / "music/itself",
        "only/deep": tmp_path / "elsewhere/deep",
    }
    (tmp_path / "music/only").mkdir()
    for name, target in links.items():
        (tmp_path / "music" / name).symlink_to(target)
    with caplog.at_level(logging.INFO):
        found = tracks(tmp_path / "music", tmp_path / "music")
    assert found == ["own/a.wav", "friend/b.wav", "friend/deep/c.wav"]
    (said,) = (record.getMessage() for record in caplog.records)
    assert "3 read already under another name" in said


@pytest.mark.parametrize("name", ["x.flac", "list.csv", "list.m3u"])
def test_a_folder_is_one_whatever_it_is_called_and_wherever_it_is_named(
    tmp_path: Path, name: str
) -> None:
    make(tmp_path, f"{name}/in.wav")
    (tmp_path / "songs.csv").write_text(f"source\n{name}\n")
    (tmp_path / "songs.jsonl").write_text(f'"{name}"\n')
    (tmp_path / "songs.m3u").write_text(f"{name}\n")
    inside = [f"{name}/in.wav"]
    for source in (name, "songs.csv", "songs.jsonl", "songs.m3u"):
        assert tracks(tmp_path / source, tmp_path) == inside
    assert tracks(f"file://{tmp_path}/{name}", tmp_path) == inside
    assert tracks(tmp_path, tmp_path) == inside


def test_a_folder_without_audio_is_a_failure(tmp_path: Path) -> None:
    make(tmp_path, "cover.jpg")
    (failure,) = read_catalog([str(tmp_path)])
    assert isinstance(failure, Failure)
    assert (failure.source, failure.message) == (str(tmp_path), "the folder holds no audio files.")


def test_a_folder_that_may_not_be_read_spares_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a/1.wav", "b/2.wav", "c/3.wav")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    # Tests may run as root, whom no permission stops.
    monkeypatch.setattr(os, "scandir", refuse)
    first, failure, last = read_catalog([str(tmp_path)])
    assert isinstance(failure, Failure)
    assert failure.error_type == "SourceUnreadable"
    assert f"{tmp_path}/b" in failure.message
    assert all(isinstance(item, TrackRef) for item in (first, last))
