"""How a run looks while it goes: bars on a terminal, plain lines where there is none."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn
from rich.table import Column, Table

from flows.cli.console import err, plain, safe
from flows.cli.tables import COLOUR, NARROW
from flows.runner.progress import ProgressTracker
from tasks.events import (
    Event,
    RunStarted,
    SeparationProgress,
    StageEntered,
    TrackEnded,
)
from tasks.heard import worst_fault
from tasks.outcome import Done, Duplicate, Failed, Skipped
from tasks.run_context import TrackState
from tasks.wording import clock, quality_word, score_text

DOING = {
    "ingest": "fetching",
    "normalize": "decoding",
    "separate": "waiting for the engine",
    "validate": "checking",
    "score": "scoring",
    "record": "recording",
}

MARK = {"pass": "✓", "review": "?", "fail": "✗"}

NOTE_WIDTH = 40
"""Columns of the words beside a bar; fixed, so that the bars don't jump."""


def pace(tracker: ProgressTracker) -> list[str]:
    """Return how many tracks, how fast, and how long yet, as far as these are known."""
    of = f" of {tracker.total:,}" if tracker.total else ""
    said = [f"{tracker.ended:,}{of}"]
    if speed := tracker.speed:
        said.append(f"{speed:.1f}× real time")
    if (left := tracker.left_s) is not None and tracker.total != tracker.ended:
        said.append(f"{clock(left)} left")
    return said


def ending(track: TrackState, *, reasons: bool = True) -> str:
    """Return how a track ended, in a line; with the worst of its faults, or without."""
    match track.outcome:
        case Failed(failure):
            return f"failed in {failure.stage}: {failure.message} {failure.remedy}".rstrip()
        case Duplicate(of):
            return f"the same audio as {of}"
        case Skipped():
            return "already done"
        case Done(report):
            quality = report.quality
            how = f"{quality_word(quality.verdict)} {score_text(quality.score, none='')}".rstrip()
            worst = worst_fault(quality.every_detail).rstrip(".") if reasons else ""
            why = f" ({worst})" if worst else ""
            return f"{how}, {report.realtime_factor:.1f}× real time{why}"
        case _:
            return "interrupted"


def _is_old_news(track: TrackState) -> bool:
    return isinstance(track.outcome, Skipped) and track.outcome.remembered


class _Display(Progress):
    """Rows a little narrower than the terminal: the "^C" that it echoes must not wrap a line."""

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        table = super().make_tasks_table(tasks)
        table.width = max(NOTE_WIDTH + 20, err.width - 4)
        return table


class Lines:
    """A line for whatever happens, for logs and pipes."""

    def __init__(self) -> None:
        self._tracker = ProgressTracker()
        self._lock = threading.Lock()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def __call__(self, event: Event, /) -> None:
        self._tracker(event)
        match event:
            case TrackEnded(track) if not _is_old_news(track):
                ended, *more = pace(self._tracker)
                said = f" · {', '.join(more)}" if more else ""
                with self._lock:
                    err.print(safe(f"[{ended}] {track.label}: {ending(track)}{said}"))


class Bars:
    """A bar a track in flight and one for the whole run, on a terminal."""

    def __init__(self) -> None:
        self._tracker = ProgressTracker()
        self._lock = threading.Lock()
        self._bars: dict[TrackState, TaskID] = {}
        name = Column(ratio=3, no_wrap=True, overflow="ellipsis")
        note = Column(width=NOTE_WIDTH, no_wrap=True, overflow="ellipsis")
        self._progress = _Display(
            TextColumn("{task.description}", markup=False, table_column=name),
            BarColumn(bar_width=None, table_column=Column(ratio=2)),
            TextColumn("{task.fields[note]}", markup=False, table_column=note),
            console=err,
            transient=True,
        )
        self._all = self._progress.add_task("all tracks", total=None, note="")

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event, /) -> None:
        self._tracker(event)
        with self._lock:
            match event:
                case RunStarted(total):
                    self._progress.update(self._all, total=total)
                    self._show_pace()
                case StageEntered(track, stage):
                    name = _short(track)
                    if track not in self._bars:
                        self._bars[track] = self._progress.add_task(name, total=1.0, note="")
                    self._progress.update(self._bars[track], description=name, note=DOING[stage])
                case SeparationProgress(track, share):
                    if track in self._bars:
                        note = f"separating, {share:.0%}"
                        self._progress.update(self._bars[track], completed=share, note=note)
                    self._show_pace()
                case TrackEnded(track):
                    if track in self._bars:
                        self._progress.remove_task(self._bars.pop(track))
                    self._show_pace()
                    if not _is_old_news(track):
                        # The table at the end has the reasons.
                        ended = f"{track.label}: {ending(track, reasons=False)}"
                        self._progress.print(f"{_mark(track)} {safe(ended)}")

    def _show_pace(self) -> None:
        note = " · ".join(pace(self._tracker))
        self._progress.update(self._all, completed=self._tracker.done, note=note)


def _short(track: TrackState) -> str:
    """Return what a bar is called: on a narrow terminal without the artist, often the same."""
    name = plain(track.label)
    return name if err.width >= NARROW else name.rsplit(" – ", 1)[-1]


def _mark(track: TrackState) -> str:
    match track.outcome:
        case Failed():
            return "[red]✗[/]"
        case Done(report):
            verdict = report.quality.verdict
            return f"[{COLOUR[verdict]}]{MARK[verdict]}[/]"
        case _:
            return "[dim]=[/]"
