"""Catalog files: what each format carries, and how each kind of damage is named."""

from __future__ import annotations

import codecs
import io
import itertools
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.contracts import Failure, TrackRef
from tasks.sources import read_catalog


def refs(*sources: object, **options: object) -> list[TrackRef]:
    items = list(read_catalog([str(source) for source in sources], **options))  # type: ignore[arg-type]
    assert [item for item in items if isinstance(item, Failure)] == []
    return [item for item in items if isinstance(item, TrackRef)]


def only_failure(path: Path) -> Failure:
    (failure,) = read_catalog([str(path)])
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.source) == ("catalog", str(path))
    assert failure.remedy
    return failure


def test_a_csv_carries_its_columns_and_resolves_against_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text(
        "Title,SOURCE,artist,album,genre,isrc,BPM,note\n"
        'Song,audio/a.wav,Band,Record,Rock,USRC17607839,120,"two\nlines"\n'
        ",https://example.org/b.mp3,,,,,,\n"
    )
    first, second = refs(path)
    assert first == TrackRef(
        source=str(tmp_path / "audio/a.wav"),
        kind="file",
        title="Song",
        artist="Band",
        album="Record",
        genre="Rock",
        isrc="USRC17607839",
        extra={"BPM": "120", "note": "two\nlines"},
        origin="songs.csv, line 2",
    )
    assert (second.source, second.kind, second.title) == ("https://example.org/b.mp3", "url", "")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "songs.csv"
    path.write_text(f"title{delimiter}source\nSong{delimiter}a.wav\n")
    assert refs(path)[0].title == "Song"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"", "utf-16-le"),
    ],
)
def test_marks_of_unicode_are_understood(tmp_path: Path, mark: bytes, encoding: str) -> None:
    path = tmp_path / "songs.csv"
    path.write_bytes(mark + "source,title\nä.wav,Größe\n".encode(encoding))
    assert refs(path)[0].title == "Größe"
    assert refs(path)[0].source == str(tmp_path / "ä.wav")


def test_a_wrong_encoding_names_its_line_and_spares_the_others(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_bytes(b"source,title\na.wav,A\nb.wav,Caf\x81\nc.wav,C\n")
    first, failure, last = read_catalog([str(path)])
    assert isinstance(failure, Failure)
    assert (failure.source, failure.error_type) == (str(path), "CatalogError")
    assert failure.message == "line 3, column `title`, holds the byte 0x81, which isn't UTF-8."
    assert "Save the file as UTF-8" in failure.remedy
    assert [item.title for item in (first, last) if isinstance(item, TrackRef)] == ["A", "C"]


def test_utf16_cut_in_the_middle_of_a_character_says_so(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_bytes("source\na.wav\n".encode("utf-16")[:-1])
    assert "can't be decoded" in only_failure(path).message


@pytest.mark.parametrize("content", ["", "path,title\na.wav,A\n"])
def test_a_missing_source_column_says_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "songs.csv"
    path.write_text(content)
    failure = only_failure(path)
    assert "no column `source`" in failure.message
    assert "`source`" in failure.remedy
    if content:
        assert "`path`, `title`" in failure.message


def test_bad_rows_are_named_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text("source,title\n,blank\nb.wav,one,two\n\nc.wav\nd.wav,ok,,\n")
    blank, long, short, trailing = read_catalog([str(path)])
    assert isinstance(blank, Failure)
    assert isinstance(long, Failure)
    assert blank.message == "line 2 has no source."
    assert long.message == "line 3 has 3 cells where the header has 2."
    assert isinstance(short, TrackRef)
    assert isinstance(trailing, TrackRef)
    assert (short.source, trailing.title) == (str(tmp_path / "c.wav"), "ok")


def test_a_quote_that_is_never_closed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text('source,title\na.wav,"never closed\n' + "b.wav,x\n" * 30_000)
    failures = [item for item in read_catalog([str(path)]) if isinstance(item, Failure)]
    assert failures[0].message.startswith("line 2 isn't CSV")
    assert "quote" in failures[0].remedy


def test_duplicates_are_yielded_once_across_sources(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    path = tmp_path / "songs.csv"
    path.write_text(f"source,title\na.wav,first\n./a.wav,first\n{tmp_path}/x/../a.wav,\n")
    (only,) = refs(path, tmp_path / "a.wav", f"file://{tmp_path}/a.wav")
    assert only.title == "first"


def test_a_source_passes_again_for_what_else_is_said_of_it(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text("source,isrc\na.wav,GB1\na.wav,GB2\n./a.wav,GB2\na.wav,\na.wav,GB1\n")
    assert [ref.isrc for ref in refs(path)] == ["GB1", "GB2"]


@pytest.mark.parametrize(
    "title", ["../../etc/passwd", "🎵🎶 ❤️‍🔥", "x" * 300, "a\\b:c*?<>|", "nul\u202e"]
)
def test_wild_titles_pass_unharmed(tmp_path: Path, title: str) -> None:
    path = tmp_path / "songs.csv"
    path.write_text(f'source,title\na.wav,"{title}"\n')
    (ref,) = refs(path)
    assert ref.title == title
    assert ref.source == str(tmp_path / "a.wav")


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "songs.jsonl"
    lines = [
        json.dumps({"source": "a.wav", "title": "A", "bpm": 120, "tags": ["x", "y"], "n": None}),
        "",
        '{"source": "b.wav"',
        '["c.wav"]',
        '"d.wav"',
        '{"title": "no source"}',
        '{"source": "e.wav", "title": "\\ud800"}',
    ]
    path.write_text("\n".join(lines))
    first, cut, array, bare, none, surrogate = read_catalog([str(path)])
    assert isinstance(first, TrackRef)
    assert first.extra == {"bpm": "120", "tags": '["x", "y"]'}
    assert first.origin == "songs.jsonl, line 1"
    assert isinstance(bare, TrackRef)
    assert isinstance(surrogate, TrackRef)
    assert surrogate.title == "?"
    messages = [item.message for item in (cut, array, none) if isinstance(item, Failure)]
    assert messages[0].startswith("line 3 isn't JSON")
    assert messages[1:] == ["line 4 isn't a JSON object.", "line 6 has no source."]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "songs.parquet"
    table = pa.table({"source": ["a.wav", None], "Title": ["A", "B"], "bpm": [120, 90]})
    pq.write_table(table, path)
    first, blank = read_catalog([str(path)])
    assert isinstance(first, TrackRef)
    assert (first.source, first.title) == (str(tmp_path / "a.wav"), "A")
    assert (first.extra, first.origin) == ({"bpm": "120"}, "songs.parquet, row 1")
    assert isinstance(blank, Failure)
    assert blank.message == "row 2 has no source."


def test_broken_parquet_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "songs.parquet"
    pq.write_table(pa.table({"source": ["a.wav"]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "isn't a whole Parquet file" in only_failure(path).message
    pq.write_table(pa.table({"path": ["a.wav"]}), path)
    assert "no column `source`" in only_failure(path).message


def test_txt_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "songs.txt"
    path.write_text("# mine\n\n  a.wav  \nsub/b with spaces.flac\n")
    assert [ref.source for ref in refs(path)] == [
        str(tmp_path / "a.wav"),
        str(tmp_path / "sub/b with spaces.flac"),
    ]


def test_m3u_titles_and_its_old_encoding(tmp_path: Path) -> None:
    path = tmp_path / "songs.m3u"
    path.write_bytes(
        "#EXTM3U\n#EXTINF:123,Band - Song - Live\n#EXTALB:Record\na.mp3\n"
        '#EXTINF:-1 tvg-id="x, y",Just a title\nb.mp3\ncafé.mp3\n'.encode("cp1252")
    )
    first, second, third = refs(path)
    assert (first.artist, first.title, first.album) == ("Band", "Song - Live", "Record")
    assert (second.artist, second.title) == ("", "Just a title")
    assert (third.source, third.title) == (str(tmp_path / "café.mp3"), "")


def test_a_local_hls_index_is_not_a_catalog(tmp_path: Path) -> None:
    path = tmp_path / "stream.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n")
    assert "HLS" in only_failure(path).message


def test_catalogs_may_name_catalogs_but_not_themselves(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.csv").write_text("source\nx.wav\n../a.txt\n")
    (tmp_path / "a.txt").write_text("in/b.csv\ny.wav\n")
    first, loop, last = read_catalog([str(tmp_path / "a.txt")])
    assert isinstance(first, TrackRef)
    assert first.source == str(tmp_path / "in/x.wav")
    assert isinstance(loop, Failure)
    assert "names itself" in loop.message
    assert isinstance(last, TrackRef)


def test_a_missing_catalog_is_a_failure(tmp_path: Path) -> None:
    assert "no such catalog" in only_failure(tmp_path / "none.csv").message


def test_a_row_without_text_for_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "songs.jsonl"
    path.write_text('{"source": "a\\u0000b.wav"}\n{"source": "\\ud800.wav"}\n')
    messages = [item.message for item in read_catalog([str(path)]) if isinstance(item, Failure)]
    assert len(messages) == 2
    assert messages[0] == "songs.jsonl, line 1: no file and no page can have this name."


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_first_rows_of_a_large_catalog_cost_no_memory(tmp_path: Path, suffix: str) -> None:
    rows = 200_000
    path = tmp_path / f"large.{suffix}"
    names = [f"folder/of/tracks/track-{n:07d}.flac" for n in range(rows)]
    if suffix == "csv":
        path.write_text("source,title\n" + "".join(f"{name},Some title\n" for name in names))
    else:
        pq.write_table(pa.table({"source": names, "title": ["t"] * rows}), path)
    del names
    list(itertools.islice(read_catalog([str(path)]), 10))  # imports aren't what is measured
    tracemalloc.start()
    try:
        first = list(itertools.islice(read_catalog([str(path)]), 1000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(first) == 1000
    assert peak < 6_000_000 < rows * 40


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    asked: list[str] = []

    def sources() -> itertools.chain[str]:
        def one(name: str) -> list[str]:
            asked.append(name)
            return [str(tmp_path / name)]

        return itertools.chain.from_iterable(map(one, ["a.wav", "b.wav", "c.wav"]))

    reading = read_catalog(sources())
    assert asked == []
    next(reading)
    assert asked == ["a.wav"]


def test_the_limit_counts_tracks_and_reads_no_further(tmp_path: Path) -> None:
    path = tmp_path / "songs.txt"
    path.write_text("a.wav\nb.wav\n")
    stdin = io.StringIO(f"none.csv\n{path}\nc.wav\n")
    items = list(read_catalog(["-"], stdin=stdin, limit=2))
    assert [type(item).__name__ for item in items] == ["Failure", "TrackRef", "TrackRef"]
    assert stdin.read() == "c.wav\n"
    assert list(read_catalog([str(path)], limit=0)) == []
