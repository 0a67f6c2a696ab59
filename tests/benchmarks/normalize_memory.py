"""Memory of normalizing a minute and an hour: `python -m tests.benchmarks.normalize_memory`.

Makes 1 and 60 minutes of 48 kHz FLAC, so that decoding and resampling both run, normalizes each in
a process of its own and prints the highest resident memory of both side by side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tests.benchmarks.results import write_result

RATE = 48_000
MINUTES = (1, 60)
ROOT = Path(__file__).resolve().parents[2]

_CHILD = """
import json, resource, sys, time
from pathlib import Path
from tasks.contracts import AudioPolicy, SourceAudio, TrackRef
from tasks.normalize import normalize

path, folder = map(Path, sys.argv[1:])
ref = TrackRef(source=str(path), kind="file")
audio = SourceAudio(ref=ref, path=path, in_scratch=True, bytes=path.stat().st_size)
import tasks.normalize.normalizing  # what an idle process holds once the libraries are loaded
idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun = time.perf_counter()
mixture = normalize(audio, folder, AudioPolicy())
print(json.dumps({
    "wall_s": time.perf_counter() - begun,
    "idle_kib": idle,
    "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    "duration_s": mixture.duration_s,
    "frames": mixture.frames,
}))
"""


@dataclass(frozen=True)
class Measured:
    """One normalization in its own process: seconds, and KiB of resident memory."""

    wall_s: float
    idle_kib: int
    peak_kib: int
    duration_s: float
    frames: int


def make_music(path: Path, minutes: int) -> None:
    """Detuned chords over soft noise, another one every ten seconds."""
    rng = np.random.default_rng(11)
    t = np.arange(10 * RATE) / RATE
    with soundfile.SoundFile(path, "w", RATE, 2, subtype="PCM_16") as file:
        for _ in range(minutes * 6):
            notes = rng.uniform(80, 900, 5)
            chord = sum(0.1 * np.sin(2 * np.pi * hz * t) for hz in notes)
            file.write(np.stack([chord, chord], 1) + rng.normal(0, 0.02, (len(t), 2)))


def measure(path: Path, folder: Path) -> Measured:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Measured(**json.loads(done.stdout))


def table(short: Measured, long: Measured) -> str:
    """Both runs side by side, as a markdown table."""
    rows = [
        ("peak RSS", *(f"{m.peak_kib / 1024:.1f} MiB" for m in (short, long))),
        ("RSS before, libraries loaded", *(f"{m.idle_kib / 1024:.1f} MiB" for m in (short, long))),
        ("wall", *(f"{m.wall_s:.1f} s" for m in (short, long))),
        ("times real time", *(f"{m.duration_s / m.wall_s:.0f}" for m in (short, long))),
        ("frames written", *(f"{m.frames:,}" for m in (short, long))),
    ]
    lines = [
        f"| | {short.duration_s / 60:g} min | {long.duration_s / 60:g} min |",
        "| --- | ---: | ---: |",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"Peak RSS of the long one over the short one: {long.peak_kib / short.peak_kib:.3f}. "
        "48 kHz 16-bit stereo FLAC in, 44.1 kHz 24-bit FLAC out.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, nargs=2, default=MINUTES, metavar=("SHORT", "LONG"))
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        for minutes in parser.parse_args().minutes:
            path = Path(scratch) / f"{minutes}.flac"
            make_music(path, minutes)
            runs.append(measure(path, Path(scratch) / "out"))
    write_result("normalize_memory", table(*runs))


if __name__ == "__main__":
    main()
