"""What the command costs beside separation: `python -m tests.benchmarks.command_overhead`.

Starts the console command as a person does, several times each, and prints the median seconds: for
a file that isn't there, for a track that is finished, and for a new one of 30 seconds with the
embedded model, less what its separation took; with the share of the whole.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from tests.benchmarks.results import write_result

RUNS = 3
SECONDS = 30.0
RATE_HZ = 44_100
COMMAND = Path(sys.executable).with_name("stemwright")
MUSIC = Path(__file__).resolve().parents[2] / "tasks/sources/bundled/costa_lenta/mixture.flac"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        write_result("command_overhead", measure(Path(scratch)))


def measure(folder: Path) -> str:
    """Run each of the three, and return the table."""
    write_songs(folder)
    # The first run of a machine makes the seed of Prefect's database, once.
    run(folder, "warm.flac")
    missing = statistics.median(run(folder, "nothing.flac")[0] for _ in range(RUNS))
    new = [run(folder, f"{number}.flac") for number in range(RUNS)]
    finished = statistics.median(run(folder, "0.flac")[0] for _ in range(RUNS))
    beside = statistics.median(wall - separation for wall, separation in new)
    whole = statistics.median(wall for wall, _ in new)
    rows = [
        ("a file that isn't there", missing, "1"),
        ("a finished track", finished, "3"),
        (f"a new track of {SECONDS:.0f} s, beside its separation", beside, "6"),
    ]
    table = ["| what | seconds | goal, under |", "| --- | --- | --- |"]
    table += [f"| {what} | {seconds:.2f} | {goal} |" for what, seconds, goal in rows]
    share = 100 * beside / whole
    return "\n".join([*table, "", f"Of {whole:.2f} s for the new track that is {share:.0f} %.", ""])


def write_songs(folder: Path) -> None:
    """Different levels, so that none has the same audio as another."""
    piece = soundfile.read(MUSIC, dtype="float32")[0]
    looped = np.tile(piece, (int(SECONDS * RATE_HZ / len(piece)) + 1, 1))[: int(SECONDS * RATE_HZ)]
    for number, name in enumerate(["warm", *map(str, range(RUNS))]):
        level = 0.5 + 0.1 * number
        soundfile.write(folder / f"{name}.flac", looped * level, RATE_HZ, subtype="PCM_16")


def run(folder: Path, source: str) -> tuple[float, float]:
    """Return the seconds of one command, and those of its separation."""
    started = time.monotonic()
    done = subprocess.run(
        [COMMAND, "separate", source, "--model", "embedded", "--json"],
        cwd=folder,
        env=os.environ | {"STEMWRIGHT_STATE": str(folder / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.monotonic() - started
    tracks = json.loads(done.stdout).get("tracks", [])
    return wall, sum(track["separation_s"] or 0.0 for track in tracks)


if __name__ == "__main__":
    main()
