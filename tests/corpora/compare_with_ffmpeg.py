"""Decode every file of a folder with this project and with FFmpeg's command, and show where they
differ in acceptance, duration, channels or sample rate. Not run in CI.

    python -m tests.corpora.compare_with_ffmpeg FOLDER [--ffmpeg PATH] [--all]

Without `--ffmpeg` the binary is that of the package `imageio-ffmpeg`, which is no dependency of
this project: install it in an environment of its own and give the path that
`imageio_ffmpeg.get_ffmpeg_exe()` returns. The exit status is 1 where something differs.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tasks.contracts import AudioPolicy, SourceAudio, TrackRef
from tasks.errors import StemwrightError
from tasks.normalize import normalize

# The longest block of the usual lossy codecs, in frames: by how much two decoders may differ.
_BLOCK_FRAMES = 2048
_TIMEOUT_S = 120
# What FFmpeg writes in front of the samples of a WAV on a pipe, at least.
_LONGEST_HEADER = 4096


class Decoded(NamedTuple):
    """What a decoder made of a file: a refusal, or a shape. `remark` is what it said of it."""

    refused: str = ""
    seconds: float = 0.0
    channels: int = 0
    rate_hz: int = 0
    remark: str = ""

    def __str__(self) -> str:
        if self.refused:
            return f"refused: {self.refused}"
        remark = f" ({self.remark})" if self.remark else ""
        return f"{self.seconds:.3f} s, {self.channels} ch, {self.rate_hz} Hz{remark}"


def by_ffmpeg(path: Path, ffmpeg: str) -> Decoded:
    """Decode the stream that FFmpeg takes for the best."""
    command = [ffmpeg, "-v", "error", "-nostdin", "-i", f"file:{path}", "-vn", "-f", "wav"]
    command += ["-c:a", "pcm_f32le", "pipe:1"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Decoded(refused="it takes too long")
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    data_at = done.stdout.find(b"data", 0, _LONGEST_HEADER)
    if data_at < 0 or len(done.stdout) <= data_at + 8:
        return Decoded(refused=lines[0][:100] if lines else "no audio")
    channels = int.from_bytes(done.stdout[22:24], "little")
    rate_hz = int.from_bytes(done.stdout[24:28], "little")
    seconds = (len(done.stdout) - data_at - 8) / (4 * channels * rate_hz)
    return Decoded("", seconds, channels, rate_hz, lines[0][:100] if lines else "")


def by_us(path: Path) -> Decoded:
    """Normalize it, whatever its length."""
    policy = AudioPolicy(min_duration_s=0.0)
    audio = SourceAudio(
        ref=TrackRef(source=str(path), kind="file"), path=path, in_scratch=False, bytes=0
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            mixture = normalize(audio, Path(folder), policy)
        except StemwrightError as error:
            return Decoded(refused=f"{type(error).__name__}: {error.cause}")
    source = mixture.source
    return Decoded(
        "",
        mixture.duration_s,
        source.channels,
        source.sample_rate_hz,
        " ".join(note for note in mixture.notes if "channel" not in note),
    )


def differences(ours: Decoded, theirs: Decoded) -> list[str]:
    """What isn't the same, in words."""
    if ours.refused and theirs.refused:
        return []
    if ours.refused:
        return ["refused by us" if not theirs.remark else "refused by us, with errors by FFmpeg"]
    if theirs.refused:
        return ["refused by FFmpeg"]
    found = []
    if abs(ours.seconds - theirs.seconds) > _BLOCK_FRAMES / theirs.rate_hz:
        found.append(f"duration {ours.seconds - theirs.seconds:+.3f} s")
    if ours.channels != theirs.channels:
        found.append("channels")
    if ours.rate_hz != theirs.rate_hz:
        found.append("rate")
    return found


def main() -> int:
    options = _options()
    ffmpeg = options.ffmpeg or importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    audio = refused = differing = 0
    for path in sorted(path for path in options.folder.rglob("*") if path.is_file()):
        theirs, ours = by_ffmpeg(path, ffmpeg), by_us(path)
        if theirs.refused and ours.refused:
            refused += 1
            if not options.all:
                continue
        audio += not (theirs.refused and ours.refused)
        found = differences(ours, theirs)
        differing += bool(found)
        if found or options.all:
            print(f"{path.relative_to(options.folder)}: {'; '.join(found) or 'the same'}")
            print(f"    ours:   {ours}\n    FFmpeg: {theirs}")
    print(f"{audio} files hold audio, {differing} differ; {refused} are refused by both.")
    return 1 if differing else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare our decoding with FFmpeg's.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ffmpeg", help="the binary; otherwise imageio-ffmpeg's")
    parser.add_argument("--all", action="store_true", help="also what is the same")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
