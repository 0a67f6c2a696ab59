"""Catalogs as people's tools write them, byte for byte."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tasks.contracts import Failure, TrackRef
from tasks.sources import read_catalog


def items(folder: Path, content: bytes, name: str = "songs.csv") -> list[TrackRef | Failure]:
    (folder / name).write_bytes(content)
    return list(read_catalog([str(folder / name)]))


def titles(folder: Path, content: bytes, name: str = "songs.csv") -> list[tuple[str, str]]:
    found = items(folder, content, name)
    assert [item for item in found if isinstance(item, Failure)] == []
    return [(Path(item.source).name, item.title) for item in found if isinstance(item, TrackRef)]


def test_windows_1252_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = b"source;title\na.wav;Caf\xe9\nb.wav;na\xefve\nc.wav;plain\nd.wav;\xc3\xa9\n"
    first, _, third, fourth = items(tmp_path, content)
    assert isinstance(first, TrackRef)
    assert isinstance(third, TrackRef)
    assert isinstance(fourth, TrackRef)
    assert (first.title, first.origin) == ("Café", "songs.csv, line 2, read as Windows-1252")
    assert (third.title, third.origin) == ("plain", "songs.csv, line 4")
    assert fourth.title == "é"
    (said,) = (record.getMessage() for record in caplog.records)
    assert "line 2, read as Windows-1252" in said


def test_windows_1252_in_the_header_and_in_a_list_of_paths(tmp_path: Path) -> None:
    (found,) = items(tmp_path, b"source,title,caf\xe9\na.wav,T,x\n")
    assert isinstance(found, TrackRef)
    assert found.extra == {"café": "x"}
    (found,) = items(tmp_path, b"Caf\xe9.wav\n", "songs.txt")
    assert found.source == str(tmp_path / "Café.wav")


@pytest.mark.parametrize(
    "content", [b"sep=;\nsource;title\na.wav;X\n", b'"sep=|"\r\nsource|title\r\na.wav|X\r\n']
)
def test_excels_line_names_the_separator(tmp_path: Path, content: bytes) -> None:
    assert titles(tmp_path, content) == [("a.wav", "X")]


def test_lines_are_counted_behind_excels(tmp_path: Path) -> None:
    _, failure = items(tmp_path, b"sep=;\nsource;title\na.wav;X\n ;Y\n")
    assert isinstance(failure, Failure)
    assert failure.message == "line 4 has no source."


def test_spaces_round_quoted_names_and_cells(tmp_path: Path) -> None:
    assert titles(tmp_path, b'"Source" , "Title"\n"a.wav" , "T"\n') == [("a.wav", "T")]


def test_rows_of_commas_are_skipped(tmp_path: Path) -> None:
    content = b"source,title\na.wav,T\n,\n   ,\n,,,\n"
    assert titles(tmp_path, content) == [("a.wav", "T")]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"source,title,title,source\na.wav,T1,T2,\n", "`source`, `title`"),
        (b"source,mood,mood\na.wav,calm,wild\n", "`mood`"),
        (b"Source,source,\na.wav,b.wav,\n", "`source`"),
    ],
)
def test_a_column_that_stands_twice_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    (failure,) = items(tmp_path, content)
    assert isinstance(failure, Failure)
    assert failure.message == f"of the columns these stand twice: {named}."
    assert failure.remedy


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'source,title\na.wav,"unclosed\nb.wav,U\n', 2),
        (b'source,title\na.wav,A\na.wav,"unclosed\nb.wav,U\nc.wav,"quoted"\n', 3),
        (b'source,title\nc.wav,C\nb.wav,U\na.wav,"unclosed', 4),
    ],
)
def test_a_quote_that_is_never_closed_costs_its_own_row(
    tmp_path: Path, content: bytes, line: int
) -> None:
    found = items(tmp_path, content)
    (failure,) = (item for item in found if isinstance(item, Failure))
    assert failure.message == (
        f"line {line} isn't CSV: a quote opens in the column `title` and isn't closed."
    )
    others = {item.title for item in found if isinstance(item, TrackRef)}
    assert "U" in others
    assert len(others) == len(found) - 1


def test_a_cell_may_still_hold_lines_and_quotes(tmp_path: Path) -> None:
    content = b'source,title\na.wav,"one\ntwo ""quoted"" " \nb.wav,B\n'
    first, second = items(tmp_path, content)
    assert isinstance(first, TrackRef)
    assert isinstance(second, TrackRef)
    assert (first.title, second.origin) == ('one\ntwo "quoted"', "songs.csv, line 4")


@pytest.mark.parametrize(
    ("written", "on_disk", "name"),
    [
        ("sub\\a.wav", "sub/a.wav", "songs.csv"),
        ("song%20with%2C%20comma.wav", "song with, comma.wav", "songs.m3u"),
        ("sub%5Ca%20b.wav", "sub/a b.wav", "songs.txt"),
        (unicodedata.normalize("NFD", "Café.wav"), "Café.wav", "songs.csv"),
        ("Café.wav", unicodedata.normalize("NFD", "Café.wav"), "songs.csv"),
        ("100%25.wav", "100%25.wav", "songs.txt"),
    ],
)
def test_a_name_is_read_as_it_can_have_been_meant(
    tmp_path: Path, written: str, on_disk: str, name: str
) -> None:
    (tmp_path / on_disk).parent.mkdir(exist_ok=True)
    (tmp_path / on_disk).touch()
    head = "source\n" if name.endswith("csv") else ""
    (found,) = items(tmp_path, f"{head}{written}\n".encode(), name)
    assert found.source == str(tmp_path / on_disk)


def test_of_two_readings_that_exist_none_is_guessed(tmp_path: Path) -> None:
    for name in ("sub/a%20b.wav", "sub/a b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (found,) = items(tmp_path, b"source\nsub\\a%20b.wav\n")
    assert found.source == str(tmp_path / "sub\\a%20b.wav")
