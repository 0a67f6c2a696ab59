"""What the pipeline costs a track: `python -m tests.benchmarks.pipeline_cost`.

Runs `separate_catalog` in this process over `TRACKS` different tracks of `SECONDS` seconds with the
embedded model, Prefect embedded as on a user's machine, one track at a time so that times add up,
and prints the milliseconds a track of every stage, of Prefect's bookkeeping, and their share of
the whole.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from flows.cli.own_prefect import prepare_prefect
from tests.benchmarks.results import write_result

if TYPE_CHECKING:
    from tasks.events import Stage
    from tasks.run_context import RunContext
    from tasks.stage_tasks import Batch

TRACKS = 50
SECONDS = 20.0
BUNDLED = Path(__file__).resolve().parents[2] / "tasks" / "sources" / "bundled"


def make_tracks(folder: Path, count: int, seconds: float) -> None:
    """The bundled music at different levels, so that no track is a duplicate of another."""
    pieces = [
        soundfile.read(path, dtype="float32")[0] for path in sorted(BUNDLED.glob("*/mixture.flac"))
    ]
    rng = np.random.default_rng(7)
    for number in range(count):
        piece = pieces[number % len(pieces)]
        frames = int(seconds * 44_100)
        looped = np.concatenate([piece, piece])[:frames] * rng.uniform(0.5, 0.95)
        soundfile.write(folder / f"{number:03d}.flac", looped, 44_100, subtype="PCM_16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=TRACKS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    arguments = parser.parse_args()
    prepare_prefect()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PREFECT_HOME"] = f"{scratch}/prefect"
        music = Path(scratch) / "music"
        music.mkdir()
        # One more, to warm up on: the first of a process starts the server and loads the model.
        make_tracks(music, arguments.tracks + 1, arguments.seconds)
        table = measure(music, Path(scratch) / "library", arguments.tracks, arguments.seconds)
    write_result("pipeline_cost", table)


def measure(music: Path, library: Path, count: int, seconds: float) -> str:
    """Run the catalog flow and say, as a markdown table, where a track's time goes."""
    from flows.parameters import CatalogSources, RunControl, Separation
    from flows.separate_catalog import separate_catalog
    from tasks import stage_tasks

    spent: dict[str, float] = defaultdict(float)
    lock = threading.Lock()
    attempt = stage_tasks._attempt

    def timed(stage: Stage, batch: Batch, run: RunContext) -> Any:
        began = time.perf_counter()
        try:
            return attempt(stage, batch, run)
        finally:
            with lock:
                spent[stage] += time.perf_counter() - began

    stage_tasks._attempt = timed
    separation = Separation(library=str(library), model="embedded", provider="local_cpu")
    control = RunControl(jobs=1, offline=True)
    separate_catalog(CatalogSources(sources=[str(music)], limit=1), separation, control)
    spent.clear()
    began = time.perf_counter()
    separate_catalog(CatalogSources(sources=[str(music)]), separation, control)
    wall = time.perf_counter() - began
    return table(spent, wall, count, seconds)


def table(spent: dict[str, float], wall: float, count: int, seconds: float) -> str:
    own = {stage: s for stage, s in spent.items() if stage != "separate"}
    bookkeeping = wall - sum(spent.values())
    rows = list(own.items())
    rows.append(("Prefect, artifacts, catalog and the rest", bookkeeping))
    lines = [
        f"{count} tracks of {seconds:.0f} s, embedded model on the CPU, one track at a time.",
        "",
        "| what | ms a track | share of the whole |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {1000 * s / count:.0f} | {s / wall:.1%} |" for name, s in rows),
        f"| **all but separation** | **{1000 * (wall - spent['separate']) / count:.0f}** | "
        f"**{1 - spent['separate'] / wall:.1%}** |",
        f"| separation | {1000 * spent['separate'] / count:.0f} | {spent['separate'] / wall:.1%} |",
        f"| whole | {1000 * wall / count:.0f} | 100 % |",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
