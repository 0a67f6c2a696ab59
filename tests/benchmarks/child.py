"""A separator as a child process: what it took, and how alike two folders of stems are."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tests.benchmarks.results import ROOT

_BLOCK = 1 << 18


class NotRun(Exception):
    """A separator that couldn't be installed, failed, or left stems out; says why."""


@dataclass(frozen=True)
class Measured:
    """One process, its start included.

    Attributes:
        wall_s: From its start to its end.
        cpu_s: User and system time of it and its children.
        peak_mib: Largest resident memory of any one of these processes.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float


def measure(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Measured:
    """Run a command from the repository's root to its end, its output into `log`.

    Linux counts the memory of the process that forks into the peak of the child: call it from
    a process that is smaller than what it measures.

    Raises:
        NotRun: It can't be started, or its exit status isn't 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        begun = time.perf_counter()
        try:
            process = subprocess.Popen(
                [str(each) for each in command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            raise NotRun(f"{Path(command[0]).name}: {error.strerror}") from error
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        wall_s = time.perf_counter() - begun
        # Popen would otherwise look for a process that has been waited for.
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise NotRun(f"exit status {process.returncode}: {last_words(log)}")
    return Measured(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def last_words(log: Path, characters: int = 160) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line[-characters:] for line in reversed(lines) if line), "it said nothing")


def median(runs: Iterable[Measured]) -> Measured:
    """Each figure's own median."""
    every = list(runs)
    return Measured(
        statistics.median(run.wall_s for run in every),
        statistics.median(run.cpu_s for run in every),
        statistics.median(run.peak_mib for run in every),
    )


def stem_files(folder: Path, stems: Iterable[str]) -> dict[str, Path]:
    """The audio file of each stem in a folder.

    Raises:
        NotRun: One isn't there.
    """
    found = {path.stem: path for path in folder.iterdir()} if folder.is_dir() else {}
    missing = [stem for stem in stems if stem not in found]
    if missing:
        raise NotRun(f"it left out {', '.join(missing)}")
    return {stem: found[stem] for stem in stems}


def agreement_db(ours: Path, theirs: Path) -> float:
    """SNR of one file against another: energy of `theirs` over that of the difference, in dB.

    Read block by block. Equal files are 300 dB alike.

    Raises:
        NotRun: They aren't equally long, or have other channels.
    """
    noise = signal = 0.0
    with soundfile.SoundFile(ours) as one, soundfile.SoundFile(theirs) as other:
        if (one.frames, one.channels) != (other.frames, other.channels):
            raise NotRun(f"{ours.name} has {one.frames} frames, not {other.frames}")
        for a, b in zip(one.blocks(_BLOCK), other.blocks(_BLOCK), strict=True):
            noise += float(np.sum((a - b) ** 2))
            signal += float(np.sum(b**2))
    return float(10 * np.log10(max(signal, 1e-30) / max(noise, signal * 1e-30, 1e-30)))


def worst_agreement_db(ours: Mapping[str, Path], theirs: Mapping[str, Path]) -> float:
    """That of the stem that is least alike."""
    return min(agreement_db(path, theirs[stem]) for stem, path in ours.items())


def written_as(files: Mapping[str, Path]) -> str:
    """How the samples were stored: `FLOAT`, `PCM_24`."""
    return " ".join(sorted({str(soundfile.info(str(path)).subtype) for path in files.values()}))
