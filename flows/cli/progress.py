"""How a run looks while it goes: bars on a terminal, plain lines where there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn
from rich.table import Column, Table

from flows.cli.console import err, plain, safe
from flows.cli.tables import COLOUR, NARROW, few, length
from tasks.crew import Journey, Stage

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

WARM_UP_S = 1.0


class Pace:
    """Seconds of audio done, and how fast: the speed as a multiple of real time, and what is left.

    Finished tracks count whole and those under way by their separated share; tracks that were
    done before the run count for nothing, or the estimate would promise too much.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self.ended = 0
        self._worked = 0
        self._began: float | None = None
        self._done_s = 0.0
        self._shares: dict[Journey, float] = {}

    def separated(self, journey: Journey, share: float) -> None:
        self._began = self._began or time.monotonic()
        self._shares[journey] = share

    def over(self, journey: Journey) -> None:
        self.ended += 1
        self._shares.pop(journey, None)
        if journey.report:
            self._worked += 1
            self._done_s += journey.report.duration_s

    @property
    def done(self) -> float:
        """Tracks that have ended, and the shares of those under way."""
        return self.ended + sum(self._shares.values())

    @property
    def speed(self) -> float | None:
        """Seconds of audio a second since the first separation began."""
        if self._began is None:
            return None
        under_way = sum(
            share * journey.mixture.duration_s
            for journey, share in self._shares.items()
            if journey.mixture
        )
        spent = time.monotonic() - self._began
        return (self._done_s + under_way) / spent if spent > WARM_UP_S else None

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take at the pace so far; None where nothing tells."""
        worked = self._worked + sum(self._shares.values())
        if self.total is None or self._began is None or worked < 0.2:
            return None
        return (time.monotonic() - self._began) / worked * max(0.0, self.total - self.done)

    def parts(self) -> list[str]:
        """How many tracks, how fast, and how long yet, as far as these are known."""
        of = f" of {self.total:,}" if self.total else ""
        said = [f"{self.ended:,}{of}"]
        if speed := self.speed:
            said.append(f"{speed:.1f}× real time")
        if (left := self.left_s) is not None and self.total != self.ended:
            said.append(f"{length(left)} left")
        return said


def ending(journey: Journey, *, reasons: bool = True) -> str:
    """How a track ended, in a line; with the reasons of its verdict, or without."""
    if journey.failure:
        failure = journey.failure
        return f"failed in {failure.stage}: {failure.message} {failure.remedy}".rstrip()
    if journey.follows:
        return f"the same audio as {journey.follows.label}"
    if journey.already:
        return "already done"
    report = journey.report
    if report is None:
        return "interrupted"
    quality = report.quality
    score = "" if quality.score is None else f" {quality.score:.2f}"
    why = f" ({few(list(quality.reasons))})" if quality.reasons and reasons else ""
    return f"{quality.verdict}{score}, {report.realtime_factor:.1f}× real time{why}"


class _Display(Progress):
    """Rows a little narrower than the terminal: the "^C" that it echoes must not wrap a line."""

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        table = super().make_tasks_table(tasks)
        table.width = max(NOTE_WIDTH + 20, err.width - 4)
        return table


class Lines:
    """A line for whatever happens, for logs and pipes."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._lock = threading.Lock()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def expects(self, total: int | None) -> None:
        self._pace.total = total

    def started(self, journey: Journey) -> None: ...

    def entered(self, journey: Journey, stage: Stage) -> None: ...

    def separated(self, journey: Journey, share: float) -> None:
        with self._lock:
            self._pace.separated(journey, share)

    def ended(self, journey: Journey) -> None:
        with self._lock:
            self._pace.over(journey)
            if journey.remembered and journey.already:
                return
            ended, *pace = self._pace.parts()
            said = f" · {', '.join(pace)}" if pace else ""
            err.print(safe(f"[{ended}] {journey.label}: {ending(journey)}{said}"))


class Bars:
    """A bar a track in flight and one for the whole run, on a terminal."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._lock = threading.Lock()
        self._bars: dict[Journey, TaskID] = {}
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

    def expects(self, total: int | None) -> None:
        self._pace.total = total
        self._progress.update(self._all, total=total)
        self._show_pace()

    def started(self, journey: Journey) -> None: ...

    def entered(self, journey: Journey, stage: Stage) -> None:
        with self._lock:
            name = _short(journey)
            if journey not in self._bars:
                self._bars[journey] = self._progress.add_task(name, total=1.0, note="")
            self._progress.update(self._bars[journey], description=name, note=DOING[stage])

    def separated(self, journey: Journey, share: float) -> None:
        with self._lock:
            self._pace.separated(journey, share)
            if journey in self._bars:
                note = f"separating, {share:.0%}"
                self._progress.update(self._bars[journey], completed=share, note=note)
            self._show_pace()

    def ended(self, journey: Journey) -> None:
        with self._lock:
            self._pace.over(journey)
            if journey in self._bars:
                self._progress.remove_task(self._bars.pop(journey))
            self._show_pace()
            if not (journey.remembered and journey.already):
                self._progress.print(f"{_mark(journey)} {safe(_ended(journey))}")

    def _show_pace(self) -> None:
        note = " · ".join(self._pace.parts())
        self._progress.update(self._all, completed=self._pace.done, note=note)


def _short(journey: Journey) -> str:
    """What a bar is called: on a narrow terminal without the artist, who is often the same."""
    name = plain(journey.label)
    return name if err.width >= NARROW else name.rsplit(" – ", 1)[-1]


def _ended(journey: Journey) -> str:
    # The table at the end has the reasons.
    return f"{journey.label}: {ending(journey, reasons=False)}"


def _mark(journey: Journey) -> str:
    if journey.failure:
        return "[red]✗[/]"
    if journey.report is None:
        return "[dim]=[/]"
    verdict = journey.report.quality.verdict
    return f"[{COLOUR[verdict]}]{MARK[verdict]}[/]"
