"""What a library promises: whole separations, and nothing else, in the layout of the contract."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from tasks.contracts import STEMS
from tasks.errors import DiskFull, ProtocolError, SettingsError
from tasks.recording import Library
from tests.recording.factory import (
    SEPARATION_ID,
    content_of,
    make_report,
    track_id_of,
    write_folder,
)


@pytest.fixture(params=["local", "memory"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Library:
    if request.param == "local":
        return Library(tmp_path / "library")
    return Library(f"memory://{tmp_path.name}/{request.node.name.partition('[')[0]}")


def paths_under(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_committed_separation_is_finished_and_reads_back(library: Library) -> None:
    report = make_report()
    assert not library.is_finished(report.track_id, SEPARATION_ID)
    with library.workspace("run") as scratch:
        recorded = library.commit(write_folder(scratch / "one", report), report)
        assert not (scratch / "one").exists()
    assert library.is_finished(report.track_id, SEPARATION_ID)
    assert library.report(report.track_id, SEPARATION_ID) == recorded
    assert library.folder(report.track_id, SEPARATION_ID).endswith(
        f"/tracks/{report.track_id}/{SEPARATION_ID}"
    )


def test_a_library_holds_exactly_the_contracts_layout(tmp_path: Path) -> None:
    library, report = Library(tmp_path / "library"), make_report()
    with library.workspace("run") as scratch:
        assert scratch.parent == tmp_path / "library" / ".scratch"
        folder = write_folder(scratch / "one", report)
        (folder / "stray.tmp").write_bytes(b"left by a stage")
        library.commit(folder, report)
        library.write_rows([report])
    place = f"tracks/{report.track_id}/{SEPARATION_ID}"
    files = paths_under(tmp_path / "library")
    tables = {path for path in files if path.startswith("reports/")}
    assert files - tables == {
        f"{place}/{name}" for name in ["mixture.flac", "report.json"] + [f"{s}.flac" for s in STEMS]
    }
    assert {Path(path).parent.as_posix() for path in tables} == {"reports/tracks", "reports/stems"}
    assert len(tables) == 2
    assert {path.name for path in (tmp_path / "library").iterdir()} == {"tracks", "reports"}


def test_the_sidecar_names_its_files_relative_to_its_folder(library: Library) -> None:
    report = make_report()
    with library.workspace("run") as scratch:
        recorded = library.commit(write_folder(scratch / "one", report), report)
    assert recorded.mixture.path == Path("mixture.flac")
    assert recorded.stem_set.stems["vocals"] == Path("vocals.flac")
    assert recorded.completeness.stems["bass"].path == Path("bass.flac")
    assert recorded.source == report.source


def test_the_second_of_two_committers_gets_the_first_ones_report(library: Library) -> None:
    first, second = make_report(run_id="first"), make_report(run_id="later")
    with library.workspace("a") as one, library.workspace("b") as two:
        library.commit(write_folder(one / "x", first), first)
        answer = library.commit(write_folder(two / "x", second), second)
        assert not (two / "x").exists()
    assert answer.run.run_id == "first"
    assert library.report(first.track_id, SEPARATION_ID).run.run_id == "first"


def test_an_unfinished_folder_is_no_obstacle(tmp_path: Path) -> None:
    library, report = Library(tmp_path), make_report()
    left = tmp_path / "tracks" / report.track_id / SEPARATION_ID
    left.mkdir(parents=True)
    (left / "old.flac").write_bytes(b"half a stem")
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "one", report), report)
    assert library.is_finished(report.track_id, SEPARATION_ID)
    assert not (left / "old.flac").exists()


def test_force_takes_the_place_of_the_old_separation_and_of_its_row(library: Library) -> None:
    old, new = make_report(run_id="old"), make_report(run_id="new", stems=["vocals"])
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "1", old), old)
        library.write_rows([old])
        library.commit(write_folder(scratch / "2", new), new, replace=True)
        library.write_rows([new])
    assert library.report(new.track_id, SEPARATION_ID).run.run_id == "new"
    assert library.tracks()["run_id"].tolist() == ["new"]
    assert library.stems()["stem"].tolist() == ["vocals"]


def test_what_the_report_names_but_nobody_wrote_is_not_committed(library: Library) -> None:
    report = make_report()
    with library.workspace("run") as scratch:
        folder = write_folder(scratch / "one", report)
        (folder / "bass.flac").unlink()
        with pytest.raises(ProtocolError, match=r"bass\.flac") as caught:
            library.commit(folder, report)
    assert caught.value.stage == "record"
    assert caught.value.track == "Artist – Title"
    assert not library.is_finished(report.track_id, SEPARATION_ID)


def test_a_stem_that_changed_after_validation_is_not_committed(library: Library) -> None:
    report = make_report()
    with library.workspace("run") as scratch:
        folder = write_folder(scratch / "one", report)
        (folder / "bass.flac").write_bytes(b"cut short")
        with pytest.raises(ProtocolError, match="changed"):
            library.commit(folder, report)


@pytest.mark.parametrize("bad", ["../../etc", "a/b", "", ".hidden", "a\0b"])
def test_ids_that_could_leave_the_library_are_refused(library: Library, bad: str) -> None:
    with pytest.raises(ProtocolError):
        library.is_finished(bad, SEPARATION_ID)
    with pytest.raises(ProtocolError):
        library.folder(track_id_of(1), bad)


@pytest.mark.parametrize("title", ["../../etc/passwd", "🎸💥" * 40, "x" * 300, "a\0b", 'q"\n\\'])
def test_a_title_is_only_data(library: Library, title: str) -> None:
    report = make_report(title=title, artist=title, extra={title: title})
    with library.workspace(title) as scratch:
        recorded = library.commit(write_folder(scratch / "one", report), report)
        library.write_rows([recorded])
    row = library.tracks().iloc[0]
    assert row["title"] == title
    assert json.loads(row["extra"]) == {title: title}
    assert library.report(report.track_id, SEPARATION_ID).title == title


def test_a_file_name_that_is_not_utf8_is_recorded_and_found_again(library: Library) -> None:
    source = b"/music/caf\xe9.mp3".decode("utf-8", "surrogateescape")
    report = make_report(source=source, fingerprint="f")
    with library.workspace("run") as scratch:
        library.write_rows([library.commit(write_folder(scratch / "one", report), report)])
    assert library.tracks()["source"].tolist() == [r"/music/caf\udce9.mp3"]
    assert library.index().find(source, "f", SEPARATION_ID) == report.track_id


def test_a_damaged_sidecar_is_one_clear_error(tmp_path: Path) -> None:
    library, report = Library(tmp_path), make_report()
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "one", report), report)
    (tmp_path / "tracks" / report.track_id / SEPARATION_ID / "report.json").write_text("{")
    with pytest.raises(ProtocolError, match=r"report\.json can't be read"):
        library.report(report.track_id, SEPARATION_ID)


def test_a_sidecar_of_another_folder_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    library, report = Library(tmp_path), make_report()
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "one", report), report)
    track = tmp_path / "tracks" / report.track_id
    track.rename(track.with_name(track_id_of("other")))
    with pytest.raises(ProtocolError, match="is that of"):
        library.report(track_id_of("other"), SEPARATION_ID)


def test_an_unfinished_separation_has_no_report(library: Library) -> None:
    with pytest.raises(ProtocolError, match="isn't finished"):
        library.report(track_id_of(1), SEPARATION_ID)


def test_making_and_pickling_a_library_touches_nothing(tmp_path: Path) -> None:
    library = pickle.loads(pickle.dumps(Library(tmp_path / "a" / "b")))
    assert library.url == str(tmp_path / "a" / "b")
    assert not library.is_finished(track_id_of(1), SEPARATION_ID)
    assert library.tracks().empty
    assert not (tmp_path / "a").exists()


def test_a_relative_path_stays_the_same_library_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    library = Library("here")
    monkeypatch.chdir("/")
    assert library.folder(track_id_of(1), "m-1") == f"{tmp_path}/here/tracks/{track_id_of(1)}/m-1"


def test_a_file_url_is_a_local_library(tmp_path: Path) -> None:
    assert Library(f"file://{tmp_path}/lib").url == f"{tmp_path}/lib"


def test_a_missing_driver_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(SettingsError) as caught:
        Library("s3://bucket/library")
    assert "pip install s3fs" in caught.value.remedy


@pytest.mark.parametrize("url", ["", "  ", "nonsense://x", "https://example.org/library"])
def test_what_can_be_no_library_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError):
        Library(url)


def test_a_file_in_the_librarys_place_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "library").write_text("a file")
    with (
        pytest.raises(SettingsError, match="folder"),
        Library(tmp_path / "library").workspace("run"),
    ):
        pass


def test_an_upload_that_arrives_short_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    from tasks.errors import NetworkError

    library, report = Library(f"memory://{tmp_path.name}/short"), make_report()
    whole = MemoryFileSystem.put_file

    def cut(self: MemoryFileSystem, lpath: str, rpath: str, **options: object) -> None:
        whole(self, lpath, rpath, **options)
        if rpath.endswith("other.flac"):
            self.pipe_file(rpath, b"short")

    monkeypatch.setattr(MemoryFileSystem, "put_file", cut)
    with library.workspace("run") as scratch:
        folder = write_folder(scratch / "one", report)
        with pytest.raises(NetworkError, match=r"other\.flac has 5 bytes"):
            library.commit(folder, report)
        assert not library.is_finished(report.track_id, SEPARATION_ID)
        monkeypatch.undo()
        library.commit(folder, report)
    assert library.is_finished(report.track_id, SEPARATION_ID)


def test_a_drivers_own_exception_is_a_fault_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    from tasks.errors import NetworkError

    class SdkError(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise SdkError("slow down")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    with pytest.raises(NetworkError, match="SdkError: slow down"):
        Library(f"memory://{tmp_path.name}").is_finished(track_id_of(1), SEPARATION_ID)


def test_a_full_disk_is_said_and_the_workspace_still_frees_its_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    library, report = Library(tmp_path), make_report()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def run() -> None:
        with library.workspace("run") as scratch:
            folder = write_folder(scratch / "one", report)
            monkeypatch.setattr(os, "fsync", full)
            library.commit(folder, report)

    with pytest.raises(DiskFull) as caught:
        run()
    assert caught.value.stage == "record"
    assert not (tmp_path / ".scratch").exists()
    assert not library.is_finished(report.track_id, SEPARATION_ID)


def test_the_committed_bytes_are_the_stages_own(tmp_path: Path) -> None:
    library, report = Library(tmp_path), make_report()
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "one", report), report)
    folder = Path(library.folder(report.track_id, SEPARATION_ID))
    assert (folder / "vocals.flac").read_bytes() == content_of("vocals", "run-1")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_files_reach_the_disk_before_the_folder_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    library, report, steps = Library(tmp_path), make_report(stems=["vocals"]), list[str]()
    flush, rename = os.fsync, Path.rename

    def noted_flush(handle: int) -> None:
        steps.append("flush " + Path(f"/proc/self/fd/{handle}").readlink().name)
        flush(handle)

    def noted_rename(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name}")
        return rename(self, target)

    with library.workspace("run") as scratch:
        folder = write_folder(scratch / "built", report)
        monkeypatch.setattr(os, "fsync", noted_flush)
        monkeypatch.setattr(Path, "rename", noted_rename)
        library.commit(folder, report)
    at = steps.index("rename built")
    names = ["mixture.flac", "vocals.flac", ".report.json.part", "built"]
    assert [step for step in steps[:at] if step.removeprefix("flush ") in names] == [
        f"flush {name}" for name in names
    ]
    assert steps[at + 1] == f"flush {report.track_id}"


def test_an_object_store_gets_the_report_last_and_loses_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    library, report = Library(f"memory://{tmp_path.name}/order"), make_report(stems=["vocals"])
    steps: list[str] = []
    put, remove = MemoryFileSystem.put_file, MemoryFileSystem.rm_file

    def noted_put(self: MemoryFileSystem, lpath: str, rpath: str, **options: object) -> None:
        steps.append("put " + rpath.rsplit("/", 1)[-1])
        put(self, lpath, rpath, **options)

    def noted_remove(self: MemoryFileSystem, path: str) -> None:
        steps.append("remove " + path.rsplit("/", 1)[-1])
        remove(self, path)

    monkeypatch.setattr(MemoryFileSystem, "put_file", noted_put)
    monkeypatch.setattr(MemoryFileSystem, "rm_file", noted_remove)
    puts = ["put mixture.flac", "put vocals.flac", "put report.json"]
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "1", report), report)
        assert steps == puts
        library.commit(write_folder(scratch / "2", report), report, replace=True)
    assert steps == [*puts, "remove report.json", *puts]


def _put(library: Library, run_id: str = "first") -> str:
    """Commit one separation with its rows; return its folder inside the store."""
    report = make_report(run_id=run_id)
    with library.workspace(run_id) as scratch:
        library.commit(write_folder(scratch / "one", report), report)
    library.write_rows([report])
    return library.folder(report.track_id, SEPARATION_ID)


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "mixture", "report", "no report"])
def test_what_has_lost_a_file_is_not_finished_and_gives_its_place(
    library: Library, damage: str
) -> None:
    from fsspec.core import url_to_fs

    fs, folder = url_to_fs(_put(library))
    name = {"mixture": "mixture.flac", "report": "report.json", "no report": "report.json"}
    path = f"{folder}/{name.get(damage, 'bass.flac')}"
    if damage in ("gone", "mixture", "no report"):
        fs.rm_file(path)
    else:
        fs.pipe_file(path, b"cut short" if damage == "cut" else b"")
    lost = None if damage == "no report" else (path.rsplit("/", 1)[-1],)
    assert library.lost(track_id_of(1), SEPARATION_ID) == lost
    assert not library.is_finished(track_id_of(1), SEPARATION_ID)

    told: list[str] = []
    assert library.rebuild(lambda place, error: told.append(str(error))) == 0
    assert [damage for text in told if "lost" in text] == [damage] * (lost is not None)

    _put(library, "again")
    assert library.is_finished(track_id_of(1), SEPARATION_ID)
    assert library.report(track_id_of(1), SEPARATION_ID).run.run_id == "again"
    assert library.tracks()["run_id"].tolist() == ["again"]
    assert library.rebuild() == 1


def test_the_row_of_what_lost_a_file_follows_the_new_one(library: Library) -> None:
    from fsspec.core import url_to_fs

    fs, folder = url_to_fs(_put(library))
    fs.rm_file(f"{folder}/bass.flac")
    _put(library, "again")
    assert library.tracks()["run_id"].tolist() == ["again"]
    assert len(library.stems()) == len(STEMS)
