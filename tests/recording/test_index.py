"""What a second run knows: finished sources are found, hopeless ones aren't tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.contracts import Failure
from tasks.recording import Alias, Library
from tests.recording.factory import SEPARATION_ID, make_report, track_id_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["local", "memory"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Library:
    if request.param == "local":
        return Library(tmp_path / "library")
    return Library(f"memory://{tmp_path.name}/{request.node.name}")


def bad_input(source: str, *, minute: int = 0, **fields: object) -> Failure:
    given: dict[str, object] = {
        "stage": "ingest",
        "error_type": "NotAudio",
        "message": "the bytes hold no audio.",
        "retryable": False,
        "input_error": True,
        "created_at": NOW + timedelta(minutes=minute),
    }
    return Failure(source=source, **given | fields)


def alias(source: str, fingerprint: str = "") -> Alias:
    return Alias(
        track_id=track_id_of(1),
        separation_id=SEPARATION_ID,
        source=source,
        fingerprint=fingerprint,
    )


def test_an_empty_library_knows_nothing(library: Library) -> None:
    index = library.index()
    assert len(index) == 0
    assert index.find("/a.mp3", "f", SEPARATION_ID) is None
    assert index.failed("/a.mp3", "f") is None


def test_a_finished_source_is_found_while_it_is_the_same_file(library: Library) -> None:
    library.write_rows([make_report(1, source="/a.mp3", fingerprint="v1")])
    index = library.index()
    assert index.find("/a.mp3", "v1", SEPARATION_ID) == track_id_of(1)
    assert index.find("/a.mp3", "", SEPARATION_ID) == track_id_of(1)
    assert index.find("/a.mp3", "v2", SEPARATION_ID) is None
    assert index.find("/b.mp3", "v1", SEPARATION_ID) is None
    assert index.find("/a.mp3", "v1", "htdemucs-ffffffff") is None


def test_a_source_whose_fingerprint_was_unknown_is_found(library: Library) -> None:
    library.write_rows([make_report(1, source="/a.mp3", fingerprint="")])
    assert library.index().find("/a.mp3", "v1", SEPARATION_ID) == track_id_of(1)


def test_of_two_versions_of_a_file_the_one_that_is_there_is_found(library: Library) -> None:
    for number, version in enumerate(["v1", "v2"]):
        created = NOW + timedelta(minutes=number)
        report = make_report(version, source="/a.mp3", fingerprint=version, created_at=created)
        library.write_rows([report])
    index = library.index()
    assert index.find("/a.mp3", "v1", SEPARATION_ID) == track_id_of("v1")
    assert index.find("/a.mp3", "v2", SEPARATION_ID) == track_id_of("v2")
    assert index.find("/a.mp3", "", SEPARATION_ID) == track_id_of("v2")
    assert index.find("/a.mp3", "v3", SEPARATION_ID) is None


def test_only_the_separations_asked_for_are_loaded(library: Library) -> None:
    library.write_rows([make_report(n, f"htdemucs-0000000{n}") for n in range(4)])
    index = library.index(["htdemucs-00000002"])
    assert len(index) == 1
    assert index.find("/music/2.mp3", "", "htdemucs-00000002") == track_id_of(2)


def test_the_same_audio_under_another_name_is_found_without_reading_it(library: Library) -> None:
    library.write_rows([make_report(1, source="/a.mp3")])
    library.record_aliases([alias("/copy of a.mp3", "v1")])
    index = library.index()
    assert index.find("/copy of a.mp3", "v1", SEPARATION_ID) == track_id_of(1)
    assert index.find("/copy of a.mp3", "v2", SEPARATION_ID) is None
    assert index.find("/copy of a.mp3", "v1", "htdemucs-ffffffff") is None


def test_an_alias_whose_name_is_not_utf8_is_found(library: Library) -> None:
    source = b"/caf\xe9.mp3".decode("utf-8", "surrogateescape")
    library.write_rows([make_report(1)])
    library.record_aliases([alias(source)])
    assert library.index().find(source, "", SEPARATION_ID) == track_id_of(1)


def test_an_alias_of_a_track_that_was_never_finished_is_not_found(library: Library) -> None:
    library.record_aliases(
        [Alias(track_id=track_id_of(9), separation_id=SEPARATION_ID, source="/x.mp3")]
    )
    assert library.index().find("/x.mp3", "", SEPARATION_ID) is None


def test_aliases_in_a_report_are_found(library: Library) -> None:
    library.write_rows([make_report(1, aliases=("/other.mp3",))])
    assert library.index().find("/other.mp3", "v1", SEPARATION_ID) == track_id_of(1)


def test_an_input_that_failed_for_what_it_is_need_not_be_tried_again(library: Library) -> None:
    written = bad_input("/a.txt", fingerprint="v1", label="A", track_id=None)
    library.record_failures([written])
    index = library.index()
    assert index.failed("/a.txt", "v1") == written
    assert index.failed("/a.txt", "") == written
    assert index.failed("/a.txt", "v2") is None
    assert index.failed("/b.txt", "v1") is None


def test_what_could_pass_is_tried_again(library: Library) -> None:
    library.record_failures([bad_input("/a.mp3", minute=0)])
    passing = bad_input("/a.mp3", minute=1, input_error=False, retryable=True)
    library.record_failures([passing])
    assert library.index().failed("/a.mp3", "") is None


def test_a_success_outdates_an_older_failure_but_not_a_newer_one(library: Library) -> None:
    library.record_failures([bad_input("/a.mp3", minute=0), bad_input("/b.mp3", minute=2)])
    at = NOW + timedelta(minutes=1)
    library.write_rows(
        [
            make_report(1, source="/a.mp3", created_at=at),
            make_report(2, source="/b.mp3", created_at=at),
        ]
    )
    index = library.index(["some-other-separation"])
    assert index.failed("/a.mp3", "") is None
    assert index.failed("/b.mp3", "") is not None


def test_a_million_sources_would_fit_in_memory(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.write_rows([make_report(n) for n in range(500)])
    index = library.index()
    assert len(index) == 500
    entries = index._entries
    held = entries.keys.nbytes + entries._fingerprints.nbytes + entries._tracks.nbytes
    assert held / 500 <= 40
