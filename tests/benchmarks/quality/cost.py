"""Seconds and memory of scoring 4 and 60 minutes: `python -m tests.benchmarks.quality.cost`.

Makes a mixture and four stems of each length (16-bit FLAC, as long as they are not alike from
minute to minute), scores each in a process of its own on one core, and prints both side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tests.benchmarks.results import write_result
from tests.data.studio.score import SAMPLE_RATE, STEMS

MINUTES = (4, 60)
ROOT = Path(__file__).resolve().parents[3]

_CHILD = """
import json, resource, sys, time
from pathlib import Path
from tasks.quality import score_separation
import librosa, scipy.fft, soundfile

def used():
    return resource.getrusage(resource.RUSAGE_SELF)

folder = Path(sys.argv[1])
names = ("drums", "bass", "other", "vocals")
if len(sys.argv) > 2:  # what is loaded or built once a process, on 2 s
    warm = Path(sys.argv[2])
    score_separation(warm / "mixture.flac", {n: warm / f"{n}.flac" for n in names})
idle, before, begun = used().ru_maxrss, used(), time.perf_counter()
report = score_separation(folder / "mixture.flac", {n: folder / f"{n}.flac" for n in names})
after = used()
print(json.dumps({
    "wall_s": time.perf_counter() - begun,
    "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    "idle_kib": idle,
    "peak_kib": after.ru_maxrss,
    "stems": len(report.stems),
}))
"""


@dataclass(frozen=True)
class Measured:
    """One scoring in its own process: seconds, and KiB of resident memory."""

    wall_s: float
    cpu_s: float
    idle_kib: int
    peak_kib: int
    stems: int


def make_music(folder: Path, seconds: int) -> None:
    """Four stems of notes and noise, other ones every ten seconds, and their exact sum."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    files = {
        name: soundfile.SoundFile(folder / f"{name}.flac", "w", SAMPLE_RATE, 2, subtype="PCM_16")
        for name in ("mixture", *STEMS)
    }
    for start in range(0, seconds, 10):
        length = min(10, seconds - start) * SAMPLE_RATE
        stems = [_stem(index, length, rng) for index in range(len(STEMS))]
        for name, stem in zip(STEMS, stems, strict=True):
            files[name].write(stem)
        files["mixture"].write(np.sum(stems, axis=0, dtype=np.int16))
    for file in files.values():
        file.close()


def _stem(index: int, length: int, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(length) / SAMPLE_RATE
    octave = 55 * 2.0**index
    tone = sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(octave, 2 * octave, 4))
    beat = np.exp(-(t % rng.uniform(0.2, 0.6)) * 8)
    mono = 1500 * beat * (tone + 0.2 * rng.standard_normal(length))
    return np.round(np.stack([mono, 0.8 * mono], axis=1)).astype(np.int16)


def measure(folder: Path, warm: Path) -> Measured:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder), str(warm)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Measured(**json.loads(done.stdout))


def table(minutes: tuple[int, ...], runs: list[Measured]) -> str:
    """The runs side by side, as a markdown table."""
    rows = [
        ("CPU", *(f"{run.cpu_s:.1f} s" for run in runs)),
        ("wall", *(f"{run.wall_s:.1f} s" for run in runs)),
        ("peak RSS", *(f"{run.peak_kib / 1024:.0f} MiB" for run in runs)),
        ("RSS before, libraries loaded", *(f"{run.idle_kib / 1024:.0f} MiB" for run in runs)),
    ]
    load = os.getloadavg()[0]
    return "\n".join([
        "| | " + " | ".join(f"{m} min" for m in minutes) + " |",
        "| --- |" + " ---: |" * len(minutes),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"{runs[0].stems} stereo stems at 44.1 kHz, 16-bit FLAC, one core; reading and decoding "
        f"count. The machine's load average was {load:.1f}: wall time says less than CPU time "
        "where others compute too.",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, nargs="+", default=list(MINUTES))
    minutes = tuple(parser.parse_args().minutes)
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        warm = Path(scratch) / "warm"
        make_music(warm, 2)
        for length in minutes:
            folder = Path(scratch) / f"{length}"
            make_music(folder, 60 * length)
            runs.append(measure(folder, warm))
    write_result("quality_cost", table(minutes, runs))


if __name__ == "__main__":
    main()
