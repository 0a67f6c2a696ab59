"""Audio small enough for a page: Opus in WebM, which browsers decode without help.

The page says so, and the library's own files stay what they are.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

BIT_RATE_BPS = 96_000
MIME_TYPE = "audio/webm"

_RATE_HZ = 48_000  # the only one that Opus has
_EFFORT = 3  # of 10: half the time of the default, the same size


def expected_bytes(duration_s: float, signals: int) -> int:
    return int(duration_s * signals * BIT_RATE_BPS / 8)


class Preview:
    """Encodes blocks (frames, channels) of one signal as they come. Mono becomes stereo."""

    def __init__(self, rate_hz: int) -> None:
        import av

        self._av = av
        self._rate = rate_hz
        self._bytes = io.BytesIO()
        self._container = av.open(self._bytes, "w", format="webm")
        options = {"compression_level": str(_EFFORT)}
        self._stream: Any = self._container.add_stream("libopus", rate=_RATE_HZ, options=options)
        self._stream.bit_rate = BIT_RATE_BPS
        self._stream.layout = "stereo"
        self._resampler = av.AudioResampler(
            format=self._stream.format, layout="stereo", rate=_RATE_HZ
        )
        self._seen = 0

    def add(self, block: NDArray[np.float32]) -> None:
        sides = block[:, :2] if block.shape[1] > 1 else np.repeat(block, 2, axis=1)
        planes = np.ascontiguousarray(np.clip(sides, -1, 1).T)
        frame = self._av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
        frame.sample_rate = self._rate
        frame.pts = self._seen
        self._seen += len(block)
        self._encode(frame)

    def finish(self) -> bytes:
        """The whole file."""
        self._encode(None)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._bytes.getvalue()

    def _encode(self, frame: Any) -> None:
        for resampled in self._resampler.resample(frame):
            self._container.mux(self._stream.encode(resampled))
