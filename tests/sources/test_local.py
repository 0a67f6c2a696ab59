"""Local files are checked and used where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.contracts import TrackRef
from tasks.errors import EmptyAudio, SourceMissing, SourceRefused, SourceUnreadable, StemwrightError
from tasks.sources import fingerprint, ingest
from tests.sources.conftest import QUICK, left_in


def ref_of(path: Path) -> TrackRef:
    return TrackRef(source=str(path), kind="file")


def test_a_file_is_not_copied(tmp_path: Path, scratch: Path, flac: bytes) -> None:
    path = tmp_path / "song.flac"
    path.write_bytes(flac)
    got = ingest(ref_of(path), scratch, QUICK.model_copy(update={"offline": True}))
    assert (got.path, got.in_scratch, got.bytes) == (path, False, len(flac))
    assert got.fingerprint == f"{len(flac)}-{path.stat().st_mtime_ns}"
    assert left_in(scratch) == []


def test_the_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "song.flac"
    path.write_bytes(b"one")
    before = fingerprint(ref_of(path))
    os.utime(path, ns=(1, 1))
    assert before != fingerprint(ref_of(path)) == "3-1"
    assert fingerprint(ref_of(tmp_path / "none.flac")) == ""
    assert fingerprint(TrackRef(source="https://example.org/a.mp3", kind="url")) == ""


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda path: None, SourceMissing, "no file"),
        (lambda path: path.touch(), EmptyAudio, "0 bytes"),
        (lambda path: path.mkdir(), SourceRefused, "a folder"),
        (lambda path: os.mkfifo(path), SourceRefused, "a pipe"),
        (lambda path: path.write_bytes(b"x" * 2000), SourceRefused, "2,000.*limit of 1,000"),
        (lambda path: path.symlink_to("nowhere"), SourceMissing, "no file"),
    ],
)
def test_what_cannot_be_a_track_says_why(
    tmp_path: Path, scratch: Path, make: object, error: type[StemwrightError], says: str
) -> None:
    path = tmp_path / "song.flac"
    make(path)  # type: ignore[operator]
    with pytest.raises(error, match=says) as caught:
        ingest(ref_of(path), scratch, QUICK.model_copy(update={"max_bytes": 1000}))
    assert (caught.value.stage, caught.value.track) == ("ingest", "song.flac")
    assert not caught.value.retryable
    assert caught.value.remedy


def test_a_file_that_may_not_be_read_says_so(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "song.flac"
    path.write_bytes(b"x")

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    # Tests may run as root, whom no permission stops.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceUnreadable, match="may not be read"):
        ingest(ref_of(path), scratch, QUICK)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "song.flac/inside"], ids=["long", "nul", "in"])
def test_an_impossible_path_is_missing(tmp_path: Path, scratch: Path, name: str) -> None:
    (tmp_path / "song.flac").write_bytes(b"x")
    with pytest.raises(SourceMissing, match="no file can have this path"):
        ingest(ref_of(tmp_path / name), scratch, QUICK)
