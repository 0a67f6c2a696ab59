"""A signal through a lossy codec and back, in memory, in step with what went in."""

from __future__ import annotations

import io

import av
import numpy as np
from scipy.signal import correlate

from tests.benchmarks.quality.audio import Audio
from tests.data.studio.score import SAMPLE_RATE

CONTAINERS = {"mp3": ("mp3", "libmp3lame"), "aac": ("mp4", "aac")}
LONGEST_DELAY = 4096


def through_codec(audio: Audio, codec: str, kbps: int) -> Audio:
    """Encoded at a constant bit rate and decoded: same length, the codec's delay taken out."""
    container, encoder = CONTAINERS[codec]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(encoder, rate=SAMPLE_RATE)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "stereo"
        stream.bit_rate = kbps * 1000
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(audio.astype(np.float32)), format="fltp", layout="stereo"
        )
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    file.seek(0)
    with av.open(file, "r") as source:
        decoded = np.concatenate([f.to_ndarray() for f in source.decode(audio=0)], axis=1)
    return _in_step(np.asarray(decoded, dtype=np.float64), audio)


def _in_step(decoded: Audio, audio: Audio) -> Audio:
    """The decoded signal moved to where it agrees best with the original."""
    samples = audio.shape[1]
    padded = np.pad(decoded, ((0, 0), (0, max(0, samples + LONGEST_DELAY - decoded.shape[1]))))
    head = min(samples, 10 * SAMPLE_RATE)
    late, early = padded[:, : head + LONGEST_DELAY].sum(axis=0), audio[:, :head].sum(axis=0)
    agreement = correlate(late, early, mode="valid", method="fft")
    delay = int(np.argmax(agreement))
    return padded[:, delay : delay + samples]
