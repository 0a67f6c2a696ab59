"""Memory of separating four minutes and an hour, beside stock demucs:
`python -m tests.benchmarks.separation_memory`.

The same weights (the embedded model's) on the CPU in processes of their own: our separator from
the mixture's file to the stems' files, and `demucs.api.Separator` from the same file to the same
stems with its own `save_audio`. Prints peak resident memory, time, and how alike the stems are.
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

RATE = 44_100
ROOT = Path(__file__).resolve().parents[2]

_OURS = """
import hashlib, json, resource, sys, time
from pathlib import Path
import soundfile, torch
from tasks.contracts import Mixture, SeparationSettings, SourceFormat, TrackRef
from tasks.separation import LocalSeparator
from tasks.separation.models import find_model
import demucs.apply

path, folder = map(Path, sys.argv[1:])
info = soundfile.info(path)
mixture = Mixture(
    ref=TrackRef(source=str(path), kind="file"), track_id="0" * 16, path=path,
    sample_rate_hz=info.samplerate, channels=info.channels, frames=info.frames, bit_depth="24",
    peak=1.0, silent=False,
    source=SourceFormat(container="flac", codec="flac", sample_rate_hz=info.samplerate,
                        channels=info.channels, lossy=False))
separator = LocalSeparator(find_model("embedded", offline=True))
begun = time.perf_counter()
separator.separate(mixture, folder, SeparationSettings(model="embedded"), deadline_s=1e9)
"""
_STOCK = """
import json, resource, sys, time
from pathlib import Path
import torch
from demucs.api import Separator, save_audio
from demucs.audio import AudioFile
from tasks.separation.models import find_model, loading

path, folder = map(Path, sys.argv[1:])
folder.mkdir()
model = loading.load_model(find_model("embedded", offline=True))
separator = Separator.__new__(Separator)
separator._model, separator._samplerate = model, model.samplerate
separator._audio_channels = model.audio_channels
separator.update_parameter(device="cpu", shifts=0, overlap=0.25, split=True, segment=None, jobs=0,
                           progress=False, callback=None, callback_arg=None)
import soundfile
begun = time.perf_counter()
samples, _ = soundfile.read(path, dtype="float32")
_, stems = separator.separate_tensor(torch.from_numpy(samples.T.copy()))
for name, stem in stems.items():
    soundfile.write(folder / f"{name}.flac", stem.T.numpy(), model.samplerate, "PCM_24")
"""
_TELL = """
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"wall_s": time.perf_counter() - begun, "cpu_s": usage.ru_utime + usage.ru_stime,
                  "peak_kib": usage.ru_maxrss}))
"""


@dataclass(frozen=True)
class Measured:
    """One separation in its own process: seconds, and KiB of resident memory."""

    wall_s: float
    cpu_s: float
    peak_kib: int


def make_music(path: Path, minutes: float) -> None:
    """Detuned chords over soft noise, another one every ten seconds."""
    rng = np.random.default_rng(11)
    t = np.arange(10 * RATE) / RATE
    with soundfile.SoundFile(path, "w", RATE, 2, subtype="PCM_24") as file:
        for _ in range(round(minutes * 6)):
            notes = rng.uniform(80, 900, 5)
            chord = sum(0.1 * np.sin(2 * np.pi * hz * t) for hz in notes)
            file.write(np.stack([chord, chord], 1) + rng.normal(0, 0.02, (len(t), 2)))


def measure(code: str, path: Path, folder: Path) -> Measured:
    done = subprocess.run(
        [sys.executable, "-c", code + _TELL, str(path), str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def agreement_db(ours: Path, theirs: Path) -> float:
    """SNR of our stem against theirs, in dB, read block by block."""
    noise = signal = 0.0
    with soundfile.SoundFile(ours) as one, soundfile.SoundFile(theirs) as other:
        assert one.frames == other.frames
        for a, b in zip(one.blocks(1 << 18), other.blocks(1 << 18), strict=True):
            noise += float(np.sum((a - b) ** 2))
            signal += float(np.sum(b**2))
    return float(10 * np.log10(signal / max(noise, 1e-30)))


def compare(minutes: float, scratch: Path) -> str:
    """One length as a row of the table."""
    path = scratch / f"{minutes:g}.flac"
    make_music(path, minutes)
    folders = scratch / f"ours-{minutes:g}", scratch / f"stock-{minutes:g}"
    ours, stock = (
        measure(code, path, folder) for code, folder in zip((_OURS, _STOCK), folders, strict=True)
    )
    worst = min(agreement_db(stem, folders[1] / stem.name) for stem in folders[0].glob("*.flac"))
    return (
        f"| {minutes:g} min | {ours.peak_kib / 1024:.0f} MiB | {stock.peak_kib / 1024:.0f} MiB "
        f"| {stock.peak_kib / ours.peak_kib:.1f} | {ours.wall_s:.0f} s | {stock.wall_s:.0f} s "
        f"| {stock.wall_s / ours.wall_s:.2f} | {worst:.0f} dB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[4, 60])
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as scratch:
        rows = [compare(each, Path(scratch)) for each in minutes]
    head = (
        "| track | peak RSS, ours | stock demucs | stock over ours | wall, ours | stock "
        "| stock over ours | worst stem's agreement |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    write_result(
        "separation_memory",
        "\n".join([head, *rows, "", "The embedded model on the CPU, file to FLAC files."]),
    )


if __name__ == "__main__":
    main()
