"""What is removed leaves nothing behind, and nothing else goes with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts import Failure
from tasks.errors import StemwrightError
from tasks.recording import Alias, Library, TrackRow, superseded
from tests.recording.factory import SEPARATION_ID, make_report, track_id_of, write_folder

NEW, FT = "htdemucs-89abcdef", "htdemucs_ft-89abcdef"


@pytest.fixture(params=["local", "memory"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Library:
    if request.param == "local":
        return Library(tmp_path / "library")
    return Library(f"memory://{tmp_path.name}/{request.node.originalname}")


def put(library: Library, track: int, separation_id: str = SEPARATION_ID, **changes: Any) -> None:
    report = make_report(track, separation_id, **changes)
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "x", report), report)
    library.write_rows([report])


def failure(source: str, track_id: str | None = None) -> Failure:
    return Failure(
        source=source, track_id=track_id, stage="x", error_type="X", message="x", retryable=False
    )


def test_a_forgotten_track_leaves_nothing(library: Library) -> None:
    put(library, 1)
    put(library, 1, FT)
    put(library, 2)
    library.record_aliases(
        [
            Alias(track_id=track_id_of(n), separation_id=SEPARATION_ID, source=f"/copy/{n}.mp3")
            for n in (1, 2)
        ]
    )
    failed = ("/music/1.mp3", "/copy/1.mp3", "/else.mp3", "/music/2.mp3", "/typo.mp3")
    library.record_failures([failure(source) for source in failed])
    library.record_failures([failure("/cut.mp3", track_id_of(1))])
    library.forget([track_id_of(1)], ["/typo.mp3"])
    assert not library.is_finished(track_id_of(1), SEPARATION_ID)
    assert not library.is_finished(track_id_of(1), FT)
    assert library.is_finished(track_id_of(2), SEPARATION_ID)
    for table in (library.tracks(), library.stems(), library.aliases()):
        assert set(table["track_id"]) == {track_id_of(2)}
    assert list(library.failures()["source"]) == ["/else.mp3", "/music/2.mp3"]
    assert library.index().find("/copy/1.mp3", "", SEPARATION_ID) is None
    assert library.rebuild() == 1


def test_a_process_that_had_seen_a_row_writes_it_again(library: Library) -> None:
    """Which file has which row is remembered by each process; another one has removed it."""
    put(library, 1)
    put(library, 2)
    Library(library.url).forget([track_id_of(1)])
    assert library.ensure_rows([(track_id_of(1), SEPARATION_ID)]) == 0
    put(library, 1)
    assert set(library.tracks()["track_id"]) == {track_id_of(1), track_id_of(2)}
    assert len(library.stems()) == 8


def test_what_was_said_by_a_removed_separation_alone_is_kept(library: Library) -> None:
    put(library, 1, source="/a.mp3", title="First", isrc="GB001", extra={"mood": "blue"})
    put(library, 1, NEW, source="/b.mp3", title="Second", isrc="GB002")
    rows = [TrackRow.read(row) for row in library.tracks().to_dict("records")]
    for _ in range(2):
        library.remove(superseded(rows))
        assert list(library.tracks()["separation_id"]) == [NEW]
        (kept,) = library.aliases().to_dict("records")
        assert (kept["source"], kept["title"], kept["isrc"]) == ("/a.mp3", "First", "GB001")
        assert (kept["separation_id"], kept["extra"]) == (NEW, '{"mood": "blue"}')


def test_nothing_goes_whose_better_one_is_gone(library: Library) -> None:
    put(library, 1)
    put(library, 1, NEW)
    rows = [TrackRow.read(row) for row in library.tracks().to_dict("records")]
    library.forget([])
    removable = superseded(rows)
    library.remove([one._replace(row=one.by, by=one.row) for one in removable])
    library.remove(removable)
    assert list(library.tracks()["separation_id"]) == [SEPARATION_ID]
    assert library.is_finished(track_id_of(1), SEPARATION_ID)


def test_a_folder_that_cannot_be_removed_keeps_its_rows_and_nobody_from_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path / "library")
    for number in range(3):
        put(library, number)
    remove, stuck = type(library._store).remove, track_id_of(1)

    def refused(store: Any, place: str) -> None:
        if stuck in place:
            raise PermissionError(13, "Permission denied", place)
        remove(store, place)

    with monkeypatch.context() as patch:
        patch.setattr(type(library._store), "remove", refused)
        with pytest.raises(StemwrightError, match="ermission"):
            library.forget([track_id_of(number) for number in range(3)])
    assert track_id_of(1) in set(library.tracks()["track_id"])
    for row in library.tracks().to_dict("records"):
        assert library.is_finished(row["track_id"], row["separation_id"])
    put(library, 9)
    assert not (tmp_path / "library/.scratch").exists()


def row(name: str, score: float | None, day: int, **fields: Any) -> TrackRow:
    given = {
        "track_id": "t",
        "separation_id": name,
        "score": score,
        "created_at": datetime(2026, 1, day, tzinfo=UTC),
        "model": "htdemucs",
        "stems_present": ("drums", "vocals"),
    }
    return TrackRow.model_validate(given | fields)


@pytest.mark.parametrize(
    ("rows", "gone", "gone_of_any"),
    [
        ([row("old", 0.7, 1), row("new", 0.7, 2)], {"old"}, {"old"}),
        ([row("old", 0.709, 1), row("new", 0.701, 2)], {"old"}, {"old"}),
        ([row("old", 0.8, 1), row("new", 0.7, 2)], {"new"}, {"new"}),
        ([row("old", None, 1), row("new", None, 2)], {"old"}, {"old"}),
        ([row("one", 0.7, 1), row("two", 0.8, 2, model="ft")], set(), {"one"}),
        ([row("all", 0.7, 1), row("few", 0.9, 2, stems_present=("vocals",))], set(), set()),
        ([row("few", 0.7, 1, stems_present=("vocals",)), row("all", 0.8, 2)], {"few"}, {"few"}),
        ([row("one", 0.7, 1), row("two", 0.6, 1, track_id="u")], set(), set()),
    ],
)
def test_which_separations_are_superseded(
    rows: list[TrackRow], gone: set[str], gone_of_any: set[str]
) -> None:
    assert {one.row.separation_id for one in superseded(rows)} == gone
    assert {one.row.separation_id for one in superseded(rows, keep_best=True)} == gone_of_any
