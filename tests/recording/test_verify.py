"""A library is read again, file by file, and what isn't as it was written is named."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from tasks.recording import Library
from tasks.recording.verify import Checked, Finding, Share
from tests.cli.conftest import Invoke, document, stemwright
from tests.recording.factory import SEPARATION_ID, make_report, track_id_of, write_folder

__all__ = ["stemwright"]


def put(library: Library, track: int) -> Path:
    report = make_report(track)
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "x", report), report)
    library.write_rows([report])
    return Path(library.folder(track_id_of(track), SEPARATION_ID))


def found(library: Library, share: Share | None = None) -> list[tuple[str, str]]:
    return [(one.kind, one.file) for one in library.verify(share) if isinstance(one, Finding)]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library(tmp_path / "library")
    for track in (1, 2, 3):
        put(made, track)
    return made


def folder_of(library: Library, track: int = 1) -> Path:
    return Path(library.folder(track_id_of(track), SEPARATION_ID))


def test_a_whole_library_has_nothing_to_name(library: Library) -> None:
    looked = list(library.verify())
    assert all(isinstance(one, Checked) and one.bytes for one in looked)
    assert len(looked) == 3


def test_a_bit_that_flipped_a_file_cut_short_and_one_that_is_gone(library: Library) -> None:
    folder = folder_of(library)
    data = bytearray((folder / "bass.flac").read_bytes())
    data[10] ^= 1
    (folder / "bass.flac").write_bytes(data)
    (folder / "drums.flac").write_bytes((folder / "drums.flac").read_bytes()[:-1])
    (folder / "vocals.flac").unlink()
    (folder / "mixture.flac").write_bytes(b"")
    assert sorted(found(library)) == [
        ("file", f"{name}.flac") for name in ("bass", "drums", "mixture", "vocals")
    ]


def test_rows_and_folders_are_held_against_each_other(library: Library) -> None:
    for file in folder_of(library, 1).iterdir():
        file.unlink()
    folder_of(library, 1).rmdir()
    (folder_of(library, 2) / "report.json").write_text("{")
    (folder_of(library, 3) / "report.json").unlink()
    assert sorted(found(library)) == [
        ("folder missing", ""),
        ("report", "report.json"),
        ("unfinished", ""),
    ]
    report = make_report(4)
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "x", report), report)
    assert ("row missing", "") in found(library)


def test_every_track_is_in_one_share(library: Library) -> None:
    looked = [
        [one.key[0] for one in library.verify(Share(number, 5)) if isinstance(one, Checked)]
        for number in range(1, 6)
    ]
    assert sorted(chain.from_iterable(looked)) == sorted(map(track_id_of, (1, 2, 3)))


def test_of_an_object_store_too(tmp_path: Path) -> None:
    library = Library(f"memory://{tmp_path.name}/verify")
    report = make_report(1)
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "x", report), report)
    library.write_rows([report])
    assert found(library) == []
    library.discard(track_id_of(1), SEPARATION_ID, "bass.flac")
    assert found(library) == [("file", "bass.flac")]


def test_the_command_names_what_it_found_and_mends_the_tables(
    stemwright: Invoke, library: Library
) -> None:
    assert stemwright("verify", "--library", library.url).exit_code == 0
    (Path(library.url) / "reports/tracks").rename(Path(library.url) / "away")
    result = stemwright("verify", "--library", library.url, "--json")
    assert result.exit_code == 1
    assert {one["kind"] for one in document(result)["findings"]} == {"row missing"}
    assert stemwright("verify", "--library", library.url, "--repair").exit_code == 0
    assert stemwright("verify", "--library", library.url).exit_code == 0


def test_a_track_whose_source_is_gone_is_left_and_named(
    stemwright: Invoke, library: Library
) -> None:
    (folder_of(library) / "bass.flac").write_bytes(b"x")
    result = stemwright("verify", "--library", library.url, "--repair")
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert "bass.flac: it has 1 bytes" in said
    assert "It can't be made again: its source is gone" in said
    assert (folder_of(library) / "bass.flac").read_bytes() == b"x"


@pytest.mark.parametrize("share", ["3", "0/3", "4/3", "a/b"])
def test_a_share_that_is_none_is_refused(stemwright: Invoke, library: Library, share: str) -> None:
    assert stemwright("verify", "--library", library.url, "--share", share).exit_code == 2
