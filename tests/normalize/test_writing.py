"""The mixture appears whole or not at all, is the same every time, and takes bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tasks.contracts import BitDepth
from tasks.errors import DiskFull, SourceMissing, StemwrightError
from tasks.normalize.writing import MasterWriter
from tests.normalize.files import RATE, encode, mix, music, noise

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("depth", ["16", "24", "32f"])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, depth: str) -> None:
    path = encode(tmp_path / "a.mp3", music(RATE), "libmp3lame")
    first = mix(path, tmp_path / "1", bit_depth=depth)
    second = mix(path, tmp_path / "2", bit_depth=depth)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.model_copy(update={"path": second.path}) == second


def test_only_the_mixture_is_left(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 2 * noise(RATE, level=1.0), RATE, subtype="FLOAT")
    mixture = mix(tmp_path / "a.wav", tmp_path / "deep" / "folder")
    assert list((tmp_path / "deep" / "folder").iterdir()) == [mixture.path]
    assert mixture.path.name == "mixture.flac"


def test_an_earlier_mixture_is_replaced(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE)
    soundfile.write(tmp_path / "b.wav", noise(2 * RATE), RATE)
    mix(tmp_path / "a.wav", tmp_path)
    assert soundfile.info(mix(tmp_path / "b.wav", tmp_path).path).frames == 2 * RATE


def test_a_failure_leaves_an_earlier_mixture_alone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE)
    kept = mix(tmp_path / "a.wav", tmp_path).path.read_bytes()
    path = tmp_path / "b.wav"
    soundfile.write(path, noise(RATE), RATE)
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(StemwrightError):
        mix(path, tmp_path)
    assert (tmp_path / "mixture.flac").read_bytes() == kept
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("depth", ["16", "24", "32f"])
def test_a_writer_that_is_not_committed_leaves_nothing(tmp_path: Path, depth: BitDepth) -> None:
    with MasterWriter(tmp_path, depth, RATE) as writer:
        writer.write(noise(RATE))
    assert not list(tmp_path.iterdir())


_LIMITED = """
import resource, sys
from pathlib import Path
from tests.normalize.files import mix
from tasks.errors import StemwrightError
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    mix(Path({source!r}), Path({folder!r}), bit_depth={depth!r})
except StemwrightError as error:
    print(type(error).__name__, error.stage, error.cause, sep="|")
"""


@pytest.mark.parametrize("depth", ["24", "32f"])
@pytest.mark.parametrize("limit", [20, 100_000, 1_000_000])
def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path, depth: str, limit: int) -> None:
    source = tmp_path / "a.wav"
    soundfile.write(source, noise(6 * RATE, level=1.0), RATE, subtype="PCM_24")
    script = _LIMITED.format(
        source=str(source), folder=str(tmp_path / "out"), depth=depth, limit=limit
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "DiskFull|normalize|the disk is full."
    assert done.stderr == ""
    assert not list((tmp_path / "out").iterdir())


def test_a_device_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full answers every write with ENOSPC, as a full file system does."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    real_open = Path.open

    def open_full(path: Path, mode: str = "r") -> object:
        return real_open(Path("/dev/full") if mode == "wb" else path, mode)

    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE)
    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(DiskFull):
        mix(tmp_path / "a.wav")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE)
    with pytest.raises(StemwrightError) as caught:
        mix(tmp_path / "a.wav", tmp_path / "file" / "folder")
    assert not isinstance(caught.value, SourceMissing)


_PEAK = """
import resource, sys
from pathlib import Path
from tests.normalize.files import mix
mix(Path(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """A hundred seconds are 70 MB as doubles; they cost next to nothing over ten."""
    peaks = []
    for seconds in (10, 100):
        path = tmp_path / f"{seconds}.flac"
        with soundfile.SoundFile(path, "w", 48_000, 2) as file:
            for _ in range(seconds // 10):
                file.write(music(480_000, 48_000))
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 16_000, peaks


def test_integer_steps_are_rounded_to_the_nearest(tmp_path: Path) -> None:
    steps = np.array([[0.0, 0.4], [0.5001, 0.6], [-0.4, -0.6]]) / 2**15
    with MasterWriter(tmp_path, "16", RATE) as writer:
        writer.write(steps)
        path = writer.commit()
    assert soundfile.read(path, dtype="int16")[0].tolist() == [[0, 0], [1, 1], [0, -1]]
