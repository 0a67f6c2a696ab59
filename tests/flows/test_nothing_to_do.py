"""What is finished already is told from the library: no server is started, nothing is imported."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import typer

from flows.cli import embedded
from flows.cli.export import Export
from flows.cli.options import RunOptions
from flows.cli.separate import run, run_and_show, separate
from tasks.export import ExportForm
from tests.flows.studio import run_catalog, write_track

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def finished(tmp_path: Path, config: Path) -> RunOptions:
    """A command whose one track is in the library."""
    source = write_track(tmp_path / "a.flac", 1)
    library = tmp_path / "library"
    assert run_catalog([source], library, config).summary.done == 1
    return RunOptions(sources=[str(source)], library=str(library), config=config)


class Started(BaseException):
    """Prefect was to be started."""


@pytest.fixture(autouse=True)
def _alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(self: embedded.Prefect) -> None:
        raise Started

    monkeypatch.setattr(embedded.Prefect, "begin", begin)
    # What belongs to a process of the command's own, and would stay behind in this one.
    monkeypatch.setattr("flows.cli.separate.set_up_logging", lambda level: None)


def test_a_finished_track_is_told_without_a_run(finished: RunOptions) -> None:
    summary = run(finished, as_json=True)
    assert (summary.already, summary.done, summary.failed) == (1, 0, 0)
    assert summary.exit_code == 0
    (line,) = summary.tracks
    assert line.folder
    assert Path(line.folder, "report.json").is_file()


def test_one_new_track_among_finished_ones_starts_a_run(
    tmp_path: Path, finished: RunOptions
) -> None:
    new = write_track(tmp_path / "b.flac", 2)
    with pytest.raises(Started):
        run(dataclasses.replace(finished, sources=[*finished.sources, str(new)]), as_json=True)


def test_a_track_that_lost_a_stem_starts_a_run(finished: RunOptions) -> None:
    (report,) = Path(finished.library).glob("tracks/*/*/report.json")
    next(report.parent.glob("vocals.*"), report.with_name("drums.flac")).unlink()
    with pytest.raises(Started):
        run(finished, as_json=True)


def test_its_stems_are_put_where_out_says(finished: RunOptions, tmp_path: Path) -> None:
    export = Export.of(tmp_path / "out", "{title} [{stem}]", ExportForm())
    for _ in range(2):
        with pytest.raises(typer.Exit) as ended:
            run_and_show(finished, as_json=True, export=export)
        assert ended.value.exit_code == 0
    (report,) = Path(finished.library).glob("tracks/*/*/report.json")
    stems = {path.stem for path in report.parent.glob("*.flac")} - {"mixture"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"a [{stem}].flac" for stem in stems
    }


def test_of_a_larger_finished_set_only_the_stems_asked_for_are_put_there(
    finished: RunOptions, tmp_path: Path
) -> None:
    options = dataclasses.replace(finished, stems="bass")
    with pytest.raises(typer.Exit) as ended:
        separate(**vars(options), target=tmp_path / "out", as_json=True)
    assert ended.value.exit_code == 0
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["bass.flac"]
