"""The README shows what the demo prints: the same words and, but for the last digit, the numbers.

`python -m tests.benchmarks.readme` writes it anew.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger
from rich.console import Console
from rich.table import Table

from blocks.settings import load_settings
from flows.bundled_truth import BUNDLED, evaluate_bundled
from flows.cli.console import PIPED_WIDTH
from flows.cli.demo import truth_table
from flows.cli.tables import legend, quality_table
from flows.runner.progress import NullProgress
from flows.runner.setup import opened, prepare
from flows.runner.summary import empty_summary
from tasks.contracts import Run, TrackRef
from tasks.outcome import Done
from tasks.run_context import TrackState
from tasks.sources import read_catalog
from tasks.stage_tasks import STAGE_TASKS, Batch
from tests.benchmarks.readme import BLOCK, README

(SHOWN,) = BLOCK.findall(README.read_text("utf-8"))
NUMBER = re.compile(r"-?\d+(?:\.(\d+))?")
SETTINGS = {"separation": {"model": "embedded"}, "engine": {"provider": "local_cpu"}}


def pieces() -> list[TrackRef]:
    rows = read_catalog([str(BUNDLED / "catalog.csv")])
    return [row for row in rows if isinstance(row, TrackRef)]


def rows_of(title: str, text: str) -> list[str]:
    """The rows of tables that are about a track."""
    return [line for line in text.splitlines() if line.startswith(f" Stemwright Studio – {title} ")]


def printed(*tables: Table) -> str:
    console = Console(file=io.StringIO(), width=PIPED_WIDTH, highlight=False)
    console.print(*tables)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(row: str) -> tuple[list[str], list[tuple[float, int]]]:
    """The words of a row, and its numbers with their decimals; all but the speed."""
    row = re.sub(r"[\d.]+×", "", row)
    found = [(float(match[0]), len(match[1] or "")) for match in NUMBER.finditer(row)]
    return NUMBER.sub("#", row).split(), found


@pytest.mark.parametrize(
    "piece",
    [
        # One piece takes seconds; the others would tell a reader nothing else.
        pytest.param(piece, id=piece.title, marks=() if at == 0 else pytest.mark.slow)
        for at, piece in enumerate(pieces())
    ],
)
def test_a_piece_comes_out_as_the_readme_shows(piece: TrackRef, tmp_path: Path) -> None:
    prepared = prepare(load_settings(None, SETTINGS | {"library": str(tmp_path / "library")}))
    with disable_run_logger(), opened(prepared, Run(), NullProgress()) as context:
        track = TrackState(ref=piece, folder=context.workspace / piece.key)
        for task in STAGE_TASKS.values():
            task.fn(Batch([track]), context)
        assert isinstance(track.outcome, Done)
        summary = empty_summary(prepared, context.library.url, Run())
        summary.add(track, fail_under=0.0)
        truth = evaluate_bundled(summary.tracks, context.library)
    now = printed(quality_table(summary.tracks, PIPED_WIDTH), truth_table(truth))
    shown = rows_of(piece.title, SHOWN)
    assert len(shown) == 2
    for then, row in zip(shown, rows_of(piece.title, now), strict=True):
        assert words(then)[0] == words(row)[0]
        for (value, decimals), (again, _) in zip(words(then)[1], words(row)[1], strict=True):
            # Processors differ in the last bits, and then where a number is rounded to.
            assert again == pytest.approx(value, abs=1.01 * 10**-decimals if decimals else 0)


def test_the_readme_has_every_piece_and_what_the_figures_mean() -> None:
    assert all(len(rows_of(piece.title, SHOWN)) == 2 for piece in pieces())
    assert legend(PIPED_WIDTH).plain in SHOWN
