"""Files that are bad in every way that the matrix names, and odd ones that must succeed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from tests.flows.studio import RATE, write_track
from tests.normalize.files import encode, music, noise


def write_bad(folder: Path) -> None:
    """Everything that fails, by the name of what is wrong with it."""
    folder.mkdir(parents=True)
    (folder / "empty.flac").touch()
    (folder / "text.mp3").write_text("This is no music.\n" * 500)
    _cut(encode(folder / "truncated.flac", noise(RATE), "flac", sample_format="s16"))
    _cut(encode(folder / "truncated.mp3", noise(3 * RATE), "libmp3lame"))
    _write_video(folder / "video.mp4")
    soundfile.write(folder / "no-samples.wav", np.zeros((0, 2)), RATE)
    soundfile.write(folder / "blink.wav", noise(RATE // 20), RATE)
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        samples = noise(RATE)
        samples[RATE // 2] = value
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="FLOAT")
    write_track(folder / "too-long.wav", 90, seconds=6.0, rate=8_000, channels=1)
    write_track(folder / "locked.flac", 91)
    (folder / "locked.flac").chmod(0)


def write_odd(folder: Path) -> None:
    """Everything that is unusual and fine."""
    folder.mkdir(parents=True)
    soundfile.write(folder / "silent.flac", np.zeros((RATE, 2)), RATE)
    write_track(folder / "telephone.wav", 1, rate=8_000, channels=1)
    write_track(folder / "studio.wav", 2, rate=192_000)
    encode(folder / "cinema.flac", music(RATE, channels=8), "flac", layout="7.1")
    for number, name in enumerate(("escape", "emoji", "endless")):
        write_track(folder / f"{name}.flac", 10 + number)
    write_track(folder / "here/song.flac", 20)
    write_track(folder / "there/song.flac", 21)
    write_track(folder / "original.flac", 30)
    write_track(folder / "copy.flac", 30)


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


def _write_video(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, width=64, height=64)
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), "yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
