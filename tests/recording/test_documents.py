"""Documents beside the tables: whole, over what was there, on a disk and in an object store."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pandas as pd
import pytest

from tasks.errors import ProtocolError
from tasks.recording import Library
from tests.recording.factory import make_report


@pytest.fixture(params=["local", "memory"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Library:
    if request.param == "local":
        return Library(tmp_path / "library")
    return Library(f"memory://documents-{uuid.uuid4().hex}")


def test_what_was_written_is_read_until_it_is_written_again(library: Library) -> None:
    assert library.document("calibration.json") is None
    library.write_document("calibration.json", b"first")
    library.write_document("calibration.json", b"second")
    library.write_document("review/standings.parquet", b"\x00table")
    assert Library(library.url).document("calibration.json") == b"second"
    assert library.document("review/standings.parquet") == b"\x00table"


def test_a_document_is_no_part_of_the_tables(library: Library) -> None:
    library.write_document("calibration.json", b"{}")
    library.write_rows([make_report()])
    library.write_document("calibration.json", b"{1}")
    assert len(library.tracks()) == 1
    assert library.document("calibration.json") == b"{1}"


def test_it_leaves_nothing_else_behind(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.write_document("calibration.json", b"{}")
    assert [path.name for path in tmp_path.rglob("*")] == ["reports", "calibration.json"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", ".x", "a//b"])
def test_a_name_that_could_point_elsewhere_is_refused(library: Library, name: str) -> None:
    for use in (library.document, lambda name: library.write_document(name, b"")):
        with pytest.raises(ProtocolError, match="can't name a document"):
            use(name)


def test_writers_at_once_leave_one_whole_document(tmp_path: Path) -> None:
    texts = [bytes([65 + number]) * 200_000 for number in range(6)]
    writers = [
        threading.Thread(target=Library(tmp_path).write_document, args=("d.json", text))
        for text in texts
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert Library(tmp_path).document("d.json") in texts


def test_pandas_still_reads_the_tables_beside_it(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.write_rows([make_report()])
    library.write_document("review/standings.parquet", b"x")
    assert len(pd.read_parquet(tmp_path / "reports/tracks")) == 1
