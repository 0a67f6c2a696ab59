"""Stem files: the depth asked for, one gain, and never half a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tasks.errors import ProtocolError, SettingsError
from tasks.separation import write_stems

NOISE = np.random.default_rng(0).normal(0, 0.2, (2, 600_000)).astype(np.float32)


@pytest.mark.parametrize(
    ("format", "depth", "subtype", "step"),
    [
        ("flac", "16", "PCM_16", 2**-15),
        ("flac", "24", "PCM_24", 2**-23),
        ("wav", "16", "PCM_16", 2**-15),
        ("wav", "24", "PCM_24", 2**-23),
        ("wav", "32f", "FLOAT", 0.0),
    ],
)
def test_formats(tmp_path: Path, format: str, depth: str, subtype: str, step: float) -> None:
    paths, gain = write_stems(tmp_path, {"bass": NOISE}, 44_100, format, depth)  # type: ignore[arg-type]
    assert gain == 1.0
    info = soundfile.info(paths["bass"])
    assert (info.format, info.subtype, info.frames) == (format.upper(), subtype, 600_000)
    assert np.abs(soundfile.read(paths["bass"])[0].T - NOISE).max() <= step


def test_one_gain_for_all_so_that_they_still_sum_to_the_mixture(tmp_path: Path) -> None:
    stems = {"drums": NOISE * 8, "bass": NOISE * 0.1}
    paths, gain = write_stems(tmp_path, stems, 44_100, "flac", "16")
    assert gain == pytest.approx(1 / np.abs(NOISE * 8).max(), rel=1e-4)
    total = sum(soundfile.read(path)[0].T for path in paths.values())
    assert np.abs(total - gain * (stems["drums"] + stems["bass"])).max() <= 2 * 2**-16 + 1e-6


def test_float_files_keep_overs_and_carry_no_date(tmp_path: Path) -> None:
    paths, gain = write_stems(tmp_path, {"drums": NOISE * 8}, 44_100, "wav", "32f")
    assert gain == 1.0
    assert np.array_equal(soundfile.read(paths["drums"], dtype="float32")[0].T, NOISE * 8)
    head = paths["drums"].read_bytes()[:200]
    peak = head.index(b"PEAK")
    assert head[peak + 12 : peak + 16] == bytes(4)


def test_a_given_gain_is_kept(tmp_path: Path) -> None:
    paths, gain = write_stems(tmp_path, {"bass": NOISE}, 44_100, "wav", "32f", gain=0.25)
    assert gain == 0.25
    assert np.array_equal(soundfile.read(paths["bass"], dtype="float32")[0].T, NOISE * 0.25)


def test_flac_cannot_hold_floats(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FLAC can't hold floating-point"):
        write_stems(tmp_path, {"bass": NOISE}, 44_100, "flac", "32f")


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    broken = NOISE.copy()
    broken[1, 777] = np.nan
    with pytest.raises(ProtocolError, match="bass that are not finite"):
        write_stems(tmp_path, {"drums": NOISE, "bass": broken}, 44_100)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("format", "depth"), [("flac", "24"), ("wav", "16"), ("wav", "32f")])
def test_full_disk(tmp_path: Path, format: str, depth: str) -> None:
    # A limit on file size stands for the disk: the kernel refuses the write in the same place.
    script = f"""
import resource, sys
from pathlib import Path
import numpy as np
from tasks.errors import DiskFull
from tasks.separation import write_stems
noise = np.random.default_rng(0).normal(0, 0.2, (2, 600_000)).astype(np.float32)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    write_stems(Path({str(tmp_path)!r}), {{"bass": noise}}, 44_100, {format!r}, {depth!r})
except DiskFull as error:
    print(error.stage, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("separate the disk is full."), done.stderr
    assert not list(tmp_path.iterdir())
