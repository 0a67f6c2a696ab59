"""Any name that the system can open is a source, whatever its bytes are."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tasks.contracts import Failure, TrackRef
from tasks.errors import from_os_error
from tasks.paths import path_of, shown, text_of
from tasks.sources import fingerprint, from_argument, ingest, missing_of, read_catalog
from tests.sources.conftest import QUICK

NAME = b"Am\xe9lie.flac"
"""In Latin-1, as older systems wrote it."""


@pytest.fixture
def song(tmp_path: Path, flac: bytes) -> str:
    """The path of a file, as the system has it."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + NAME)
    Path(path).write_bytes(flac)
    return path


@pytest.fixture
def source(tmp_path: Path) -> str:
    """What it is as a source."""
    return f"file://{tmp_path}/Am%E9lie.flac"


def only(source: object, **options: object) -> TrackRef:
    (item,) = read_catalog([str(source)], **options)  # type: ignore[arg-type]
    assert isinstance(item, TrackRef), item
    return item


@pytest.mark.parametrize(
    "raw", [NAME, b"\xff\xfe", b"100%\xe9?#.flac", b"new\nline\xe9", "Amélie.flac".encode()]
)
def test_a_path_can_be_had_back_from_its_text(raw: bytes) -> None:
    path = os.fsdecode(b"/music/" + raw)
    text = text_of(path)
    assert text.encode()
    assert path_of(text) == path
    assert text.startswith("file:///music/") == (raw != "Amélie.flac".encode())


def test_wherever_it_is_named_it_is_one_source(tmp_path: Path, song: str, source: str) -> None:
    lists = {
        "songs.csv": b"source,title\n" + NAME + b",Am\xe9lie\n",
        "songs.jsonl": b'{"source": "' + NAME + b'", "title": "Am\xe9lie"}\n',
        "escaped.jsonl": json.dumps({"source": Path(song).name, "title": "Amélie"}).encode(),
        "songs.m3u": b"#EXTINF:2,Am\xe9lie\n" + NAME + b"\n",
        "percent.m3u8": "#EXTINF:2,Amélie\nAm%E9lie.flac\n".encode(),
        "url.m3u": f"#EXTINF:2,Amélie\n{source}\n".encode(),
    }
    for name, content in lists.items():
        (tmp_path / name).write_bytes(content)
        ref = only(tmp_path / name)
        assert (ref.source, ref.title) == (source, "Amélie"), name
    (tmp_path / "songs.txt").write_bytes(NAME + b"\n")
    given = (song, tmp_path / "songs.txt", tmp_path, source, source.replace("A", "%41"))
    assert {only(one).source for one in given} == {source}
    every = [str(one) for one in (*given, *(tmp_path / name for name in lists))]
    found = [ref for ref in read_catalog(every) if isinstance(ref, TrackRef)]
    assert [(ref.source, ref.title) for ref in found] == [(source, ""), (source, "Amélie")]


def test_it_is_shown_with_a_replacement_character(song: str, source: str) -> None:
    assert only(song).label == "Am\ufffdlie.flac"
    assert shown(source) == shown(song)


def test_it_is_fetched_like_any_other(song: str, scratch: Path, flac: bytes) -> None:
    ref = only(song)
    got = ingest(ref, scratch, QUICK)
    assert (got.bytes, got.path) == (len(flac), Path(song))
    assert got.fingerprint == fingerprint(ref) != ""


def test_a_folder_and_a_catalog_may_be_called_so_too(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Ren\xe9"))
    folder.mkdir()
    (folder / "a.wav").touch()
    (folder / "list.csv").write_text("source\na.wav\n,\n \n")
    catalog = Path(os.fsdecode(os.fsencode(folder) + b"/\xe9.csv"))
    catalog.write_text("source,title\na.wav,\n,no source\n")
    wanted = f"file://{tmp_path}/Ren%E9/a.wav"
    assert {only(one).source for one in (folder, folder / "list.csv")} == {wanted}
    ref, failure = read_catalog([str(catalog)])
    assert isinstance(failure, Failure)
    assert (ref.source, failure.source) == (wanted, f"file://{tmp_path}/Ren%E9/%E9.csv")
    assert failure.label == f"{tmp_path}/Ren\ufffd/\ufffd.csv"


def test_stdin_may_name_it(tmp_path: Path, song: str, source: str) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(os.fsencode(song) + b"\n"), encoding="utf-8")
    assert only("-", stdin=stdin).source == source


def test_a_parquet_file_may_name_it(tmp_path: Path, song: str, source: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"source": [NAME], "title": [b"T"]}), tmp_path / "songs.parquet")
    ref = only(tmp_path / "songs.parquet")
    assert (ref.source, ref.title) == (source, "T")


def test_an_argument_becomes_what_any_parameter_can_hold(
    tmp_path: Path, song: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert from_argument(Path(song).name) == source
    assert from_argument("http://a.org/\udce9.mp3") == "http://a.org/%E9.mp3"
    for same in ("-", "a.wav", "Amélie.flac", "s3://bucket/é", source):
        assert from_argument(same) == same


def test_only_what_is_missing_is_missing(tmp_path: Path, song: str, source: str) -> None:
    away = [f"file://{tmp_path}/%E8.flac", str(tmp_path / "none"), " ", "x" * 300, "\ud800"]
    assert missing_of([song, source, "-", "http://[::1/", *away]) == away


@pytest.mark.parametrize(
    "bad", ["http://[::1/a.mp3", "file:///a%00b.wav", "\ud800.wav", "a\0b", ""]
)
def test_a_bad_name_spares_the_others(song: str, source: str, bad: str) -> None:
    failure, ref = read_catalog([bad, song])
    assert isinstance(failure, Failure)
    assert failure.remedy
    assert failure.model_dump_json()
    assert ref.source == source


def test_a_name_that_no_file_has_is_read_as_windows_1252(tmp_path: Path) -> None:
    (tmp_path / "Amélie.flac").touch()
    for name, content in {"a.csv": b"source\n" + NAME, "a.txt": NAME, "a.m3u": NAME}.items():
        (tmp_path / name).write_bytes(content + b"\n")
        ref = only(tmp_path / name)
        assert ref.source == str(tmp_path / "Amélie.flac")
        assert ref.origin.endswith("read as Windows-1252")


def test_an_error_of_the_system_names_it_as_text() -> None:
    path = os.fsdecode(b"/music/" + NAME)
    error = from_os_error(PermissionError(13, "Permission denied", path))
    assert error.cause == "/music/Am\ufffdlie.flac may not be read or written."


def test_the_locale_changes_no_source(tmp_path: Path, song: str, source: str) -> None:
    """Run where names are ASCII and every other byte of them is kept as a surrogate."""
    folder = tmp_path / "Größe"
    folder.mkdir()
    (folder / "a.wav").touch()
    (folder / "list.csv").write_text("source\n../Größe/a.wav\n", encoding="utf-8")
    program = (
        "import sys; from tasks.sources import *\n"
        "for item in read_catalog(map(from_argument, sys.argv[1:])):\n"
        "    print(ascii(item.source), bool(fingerprint(item)))\n"
    )
    given = (song, folder, folder / "list.csv", f"file://{quote(str(folder))}/a.wav")
    done = subprocess.run(
        [sys.executable, "-c", program, *given],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{source!a} True",
        f"{str(folder / 'a.wav')!a} True",
    ]
