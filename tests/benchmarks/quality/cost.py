"""Seconds and memory of validating and scoring: `python -m tests.benchmarks.quality.cost`.

Makes a mixture and four stems of 4 and 60 minutes (24-bit FLAC, as a run writes them, not alike
from minute to minute), validates and scores each in a process of its own on one core, as the stages
do, and prints both side by side.
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
import soundfile
from tasks.contracts import Mixture, SourceFormat, StemSet, TrackRef
from tasks.quality import measures_of, score_measures
from tasks.validation import check_completeness

NAMES = ("drums", "bass", "other", "vocals")

def used():
    return resource.getrusage(resource.RUSAGE_SELF)

def cpu_s():
    return used().ru_utime + used().ru_stime

def separation(folder):
    path = folder / "mixture.flac"
    info = soundfile.info(str(path))
    shape = dict(sample_rate_hz=info.samplerate, channels=info.channels, frames=info.frames)
    source = SourceFormat(
        container="flac", codec="flac", sample_rate_hz=44_100, channels=2, lossy=False
    )
    mixture = Mixture(
        ref=TrackRef(source=str(path), kind="file"), track_id="0" * 16, path=path, bit_depth="24",
        peak=1.0, silent=False, source=source, **shape,
    )
    stems = StemSet(
        track_id="0" * 16, separation_id="m", model="m", weights_sha256="", expected=NAMES,
        stems={name: folder / f"{name}.flac" for name in NAMES}, engine="local_cpu",
        provider="local_cpu", device="cpu", separation_s=1.0, **shape,
    )
    return mixture, stems

def run(folder):
    mixture, stems = separation(folder)
    begun = cpu_s()
    measures = measures_of(stems.expected, None)
    found = check_completeness(mixture, stems, None, (measures,))
    measured = measures.result()
    validated = cpu_s()
    report = score_measures(measured)
    assert found.complete
    return validated - begun, cpu_s() - validated, len(report.stems)

if len(sys.argv) > 2:  # what is loaded or built once a process, on 2 s
    run(Path(sys.argv[2]))
idle, begun = used().ru_maxrss, time.perf_counter()
validate_s, score_s, stems = run(Path(sys.argv[1]))
print(json.dumps({
    "wall_s": time.perf_counter() - begun,
    "validate_s": validate_s,
    "score_s": score_s,
    "idle_kib": idle,
    "peak_kib": used().ru_maxrss,
    "stems": stems,
}))
"""


@dataclass(frozen=True)
class Measured:
    """Both in a process of their own: seconds of CPU time and in all, KiB of resident memory."""

    wall_s: float
    validate_s: float
    score_s: float
    idle_kib: int
    peak_kib: int
    stems: int


def make_music(folder: Path, seconds: int) -> None:
    """Four stems of notes and noise, other ones every ten seconds, and nearly their sum."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    files = {
        name: soundfile.SoundFile(folder / f"{name}.flac", "w", SAMPLE_RATE, 2, subtype="PCM_24")
        for name in ("mixture", *STEMS)
    }
    for start in range(0, seconds, 10):
        length = min(10, seconds - start) * SAMPLE_RATE
        stems = [_stem(index, length, rng) for index in range(len(STEMS))]
        for name, stem in zip(STEMS, stems, strict=True):
            files[name].write(stem)
        rest = 0.0005 * rng.standard_normal((length, 2))
        files["mixture"].write(np.sum(stems, axis=0) + rest)
    for file in files.values():
        file.close()


def _stem(index: int, length: int, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(length) / SAMPLE_RATE
    octave = 55 * 2.0**index
    tone = sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(octave, 2 * octave, 4))
    beat = np.exp(-(t % rng.uniform(0.2, 0.6)) * 8)
    mono = 0.045 * beat * (tone + 0.2 * rng.standard_normal(length))
    side = 0.004 * beat * rng.standard_normal(length)
    return np.stack([mono + side, 0.8 * mono - side], axis=1)


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
        ("CPU, validate", *(f"{run.validate_s:.2f} s" for run in runs)),
        ("CPU, score", *(f"{run.score_s:.2f} s" for run in runs)),
        ("wall", *(f"{run.wall_s:.1f} s" for run in runs)),
        ("peak RSS", *(f"{run.peak_kib / 1024:.0f} MiB" for run in runs)),
        ("RSS before, libraries loaded", *(f"{run.idle_kib / 1024:.0f} MiB" for run in runs)),
    ]
    load = os.getloadavg()[0]
    first = runs[0].validate_s + runs[0].score_s
    return "\n".join([
        "| | " + " | ".join(f"{m} min" for m in minutes) + " |",
        "| --- |" + " ---: |" * len(minutes),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"CPU seconds to validate and score {minutes[0]} minutes of {runs[0].stems} stems: "
        f"{first:.2f}",
        "",
        "Validation reads each file once, hashes it, and takes all measures on the way; the score "
        "reads nothing. Stereo at 44.1 kHz, 24-bit FLAC, one core. The machine's load average was "
        f"{load:.1f}: wall time says less than CPU time where others compute too.",
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
