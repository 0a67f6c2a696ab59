"""Real audio files for the tests, made with PyAV's and libsndfile's encoders."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from tasks.contracts import AudioPolicy, Mixture, SourceAudio, TrackRef
from tasks.normalize import normalize

Samples = NDArray[np.float64]
RATE = 44_100


def tone(
    frames: int, hz: float = 440.0, rate: int = RATE, level: float = 0.5, channels: int = 2
) -> Samples:
    """A sine, shape (frames, channels), the same in every channel."""
    wave = level * np.sin(2 * np.pi * hz * np.arange(frames) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def noise(frames: int, channels: int = 2, level: float = 0.3, seed: int = 0) -> Samples:
    """White noise within +-level, shape (frames, channels): what no codec packs well."""
    return np.random.default_rng(seed).uniform(-level, level, (frames, channels))


def music(frames: int, rate: int = RATE, channels: int = 2) -> Samples:
    """A chord that swells, different in each channel: what lossy codecs are made for."""
    t = np.arange(frames) / rate
    return np.stack(
        [
            sum(0.15 * np.sin(2 * np.pi * hz * (1 + 0.01 * c) * t) for hz in (220, 277.2, 329.6))
            * (0.6 + 0.4 * np.sin(2 * np.pi * 0.7 * t))
            for c in range(channels)
        ],
        axis=1,
    )


def encode(
    path: Path,
    samples: Samples,
    codec: str,
    *,
    rate: int = RATE,
    layout: str = "stereo",
    sample_format: str | None = None,
    video: str = "",
    options: dict[str, str] | None = None,
    stream_options: dict[str, str] | None = None,
) -> Path:
    """Encode with FFmpeg's libraries; `video` adds a picture stream in that codec."""
    with av.open(str(path), "w", options=options or {}) as container:
        extra: dict[str, Any] = {"format": sample_format} if sample_format else {}
        picture: Any = video and container.add_stream(video, rate=10, width=64, height=64)
        stream: Any = container.add_stream(
            codec, rate=rate, layout=layout, options=stream_options or {}, **extra
        )
        if picture:
            for frame in _pictures(len(samples) * 10 // rate):
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        for start in range(0, len(samples), 4096):
            container.mux(
                stream.encode(frame_of(samples[start : start + 4096], start, rate, layout))
            )
        container.mux(stream.encode(None))
    return path


def frame_of(block: Samples, start: int, rate: int, layout: str) -> av.AudioFrame:
    """Samples of shape (frames, channels) as FFmpeg's encoders take them."""
    packed = np.ascontiguousarray(block).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, "dbl", layout)
    frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
    return frame


def _pictures(count: int) -> list[av.VideoFrame]:
    frames = []
    for index in range(max(count, 1)):
        frame = av.VideoFrame.from_ndarray(
            np.full((96, 64), index % 255, dtype=np.uint8), "yuv420p"
        )
        frame.pts = index
        frames.append(frame)
    return frames


def remux(path: Path, out: Path, **options: str) -> Path:
    """The same packets in another container."""
    with av.open(str(path)) as source, av.open(str(out), "w", options=options) as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return out


def audio_of(path: Path) -> SourceAudio:
    """As ingest hands it over."""
    ref = TrackRef(source=str(path), kind="file")
    size = path.stat().st_size if path.is_file() else 0
    return SourceAudio(ref=ref, path=path, in_scratch=False, bytes=size)


def mix(path: Path, folder: Path | None = None, **policy: Any) -> Mixture:
    """`normalize` of a file, beside it unless a folder is given."""
    return normalize(audio_of(path), folder or path.parent / "out", AudioPolicy(**policy))


def samples_of(mixture: Mixture) -> Samples:
    """What the mixture's file holds, as libsndfile decodes it, shape (frames, 2)."""
    samples, rate = soundfile.read(mixture.path, dtype="float64", always_2d=True)
    assert rate == mixture.sample_rate_hz
    assert samples.shape == (mixture.frames, 2)
    return np.asarray(samples)


def integers_of(mixture: Mixture) -> NDArray[np.int32]:
    """The same in 32-bit integers, the mixture's bits in the upper ones."""
    return np.asarray(soundfile.read(mixture.path, dtype="int32", always_2d=True)[0])


def snr_db(reference: Samples, got: Samples) -> float:
    """Power of the reference over that of the difference, in dB."""
    error = float(np.sum((reference - got) ** 2))
    return float(10 * np.log10(np.sum(reference**2) / max(error, 1e-30)))
