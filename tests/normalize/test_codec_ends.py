"""The end of every codec is there: what the last samples held is found, and where it belongs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.normalize.files import Samples, mix, samples_of

# Each audio encoder of FFmpeg's libraries with a container and a rate that it takes, the channels,
# and by how many samples the decoded audio may be late: the encoder's delay, where the container
# doesn't state it.
FORMATS: dict[str, list[tuple[str, int, int, int]]] = {
    "aac": [("mka", 44100, 2, 0), ("mov", 44100, 2, 0), ("adts", 44100, 2, 1024)],
    "ac3": [("mka", 44100, 2, 0), ("wav", 44100, 2, 256), ("ac3", 44100, 2, 256)],
    "ac3_fixed": [("mka", 44100, 2, 0)],
    "adpcm_adx": [("adx", 44100, 2, 0)],
    "adpcm_argo": [("argo_asf", 44100, 2, 0)],
    "adpcm_ima_alp": [("alp", 22050, 2, 0)],
    "adpcm_ima_apm": [("apm", 44100, 2, 0)],
    "adpcm_ima_qt": [("mov", 44100, 2, 0), ("aiff", 44100, 2, 0)],
    "adpcm_ima_ssi": [("kvag", 44100, 2, 0)],
    "adpcm_ima_wav": [("wav", 44100, 2, 0), ("caf", 44100, 2, 0)],
    "adpcm_ima_ws": [("aiff", 44100, 2, 0)],
    "adpcm_ms": [("wav", 44100, 2, 0), ("asf", 44100, 2, 0)],
    "adpcm_swf": [("wav", 44100, 2, 0)],
    "adpcm_yamaha": [("wav", 44100, 2, 0)],
    "alac": [("mov", 44100, 2, 0), ("caf", 44100, 2, 0)],
    "dfpwm": [("wav", 44100, 2, 1)],
    "eac3": [("mka", 44100, 2, 0), ("eac3", 44100, 2, 256)],
    "flac": [("mka", 44100, 2, 0), ("flac", 44100, 2, 0), ("ogg", 44100, 2, 0)],
    "g722": [("wav", 16000, 1, 22)],
    "g723_1": [("wav", 8000, 1, 60)],
    "g726": [("wav", 8000, 1, 0)],
    "libmp3lame": [
        ("mp3", 44100, 2, 0),
        ("mka", 44100, 2, 0),
        ("mov", 44100, 2, 0),
        ("wav", 44100, 2, 1105),
        ("mpegts", 44100, 2, 1105),
    ],
    "libopencore_amrnb": [("amr", 8000, 1, 40)],
    "libopus": [("ogg", 48000, 2, 0), ("webm", 48000, 2, 0), ("flv", 48000, 2, 0)],
    "mp2": [("mka", 44100, 2, 0), ("mp2", 44100, 2, 481)],
    "mp2fixed": [("mka", 44100, 2, 0)],
    "nellymoser": [("mov", 44100, 1, 0), ("flv", 44100, 1, 128)],
    "pcm_alaw": [("wav", 44100, 2, 0)],
    "pcm_dvd": [("vob", 48000, 2, 0)],
    "pcm_f32be": [("aiff", 44100, 2, 0)],
    "pcm_f32le": [("wav", 44100, 2, 0)],
    "pcm_f64be": [("caf", 44100, 2, 0)],
    "pcm_f64le": [("wav", 44100, 2, 0)],
    "pcm_mulaw": [("au", 44100, 2, 0)],
    "pcm_s16be": [("aiff", 44100, 2, 0), ("au", 44100, 2, 0)],
    "pcm_s16be_planar": [("ast", 44100, 2, 0)],
    "pcm_s16le": [("wav", 44100, 2, 0), ("w64", 44100, 2, 0), ("avi", 44100, 2, 0)],
    "pcm_s16le_planar": [("nut", 44100, 2, 0)],
    "pcm_s24be": [("aiff", 44100, 2, 0)],
    "pcm_s24le": [("wav", 44100, 2, 0)],
    "pcm_s24le_planar": [("nut", 44100, 2, 0)],
    "pcm_s32be": [("caf", 44100, 2, 0)],
    "pcm_s32le": [("wav", 44100, 2, 0)],
    "pcm_s32le_planar": [("nut", 44100, 2, 0)],
    "pcm_s64le": [("wav", 44100, 2, 0)],
    "pcm_s8": [("aiff", 44100, 2, 0)],
    "pcm_s8_planar": [("nut", 44100, 2, 0)],
    "pcm_u16be": [("nut", 44100, 2, 0)],
    "pcm_u16le": [("nut", 44100, 2, 0)],
    "pcm_u24be": [("nut", 44100, 2, 0)],
    "pcm_u24le": [("nut", 44100, 2, 0)],
    "pcm_u32be": [("nut", 44100, 2, 0)],
    "pcm_u32le": [("nut", 44100, 2, 0)],
    "pcm_u8": [("wav", 44100, 2, 0)],
    "real_144": [("mka", 8000, 1, 0), ("rm", 8000, 1, 160)],
    "roq_dpcm": [("roq", 22050, 2, 0)],
    "sbc": [("sbc", 44100, 2, 73)],
    "tta": [("tta", 44100, 2, 0)],
    "vorbis": [("ogg", 44100, 2, 0), ("asf", 44100, 2, 0)],
    "wavpack": [("wv", 44100, 2, 0), ("mka", 44100, 2, 0)],
    "wmav1": [("asf", 44100, 2, 0), ("avi", 44100, 2, 0)],
    "wmav2": [("asf", 44100, 2, 0), ("wav", 44100, 2, 0)],
}
# Encoders of what is no music, or that no demuxer here reads back.
WITHOUT = {
    "adpcm_ima_amv",
    "anull",
    "aptx",  # its file doesn't state a rate
    "aptx_hd",
    "comfortnoise",
    "g726le",
    "mp3",
    "opus",
    "pcm_bluray",
    "pcm_s24daud",
    "pcm_s64be",
    "pcm_vidc",
}
# Long enough that an encoder which never writes what it delays leaves most of it.
MARKER_S = 0.04
MUXERS = {"mka": "matroska"}
BIT_RATES = {"g723_1": "6300", "wmav1": "128000", "wmav2": "128000"}


def encoders() -> set[str]:
    """The names of all audio encoders that this build of FFmpeg's libraries has."""
    found = set()
    for name in av.codecs_available:
        try:
            codec = av.Codec(name, "w")
        except av.codec.codec.UnknownCodecError:
            continue
        if codec.type == "audio":
            found.add(name)
    return found


def test_every_encoder_is_asked() -> None:
    assert encoders() - FORMATS.keys() - WITHOUT == set()


@pytest.mark.parametrize(
    ("codec", "container", "rate", "channels", "delay"),
    [(codec, *form) for codec, forms in FORMATS.items() for form in forms if codec in encoders()],
)
def test_a_marker_at_the_last_sample_is_found(
    tmp_path: Path, codec: str, container: str, rate: int, channels: int, delay: int
) -> None:
    frames = rate + rate // 7
    marker = _marker(rate)
    original = 0.02 * np.sin(2 * np.pi * 220 * np.arange(frames) / rate)
    original[-len(marker) :] += marker
    path = _encode(tmp_path / f"a.{container}", original, codec, rate, channels)
    mixture = mix(path, sample_rate_hz=rate)
    assert mixture.source_damages == 0
    at, likeness = _find(samples_of(mixture)[:, 0], marker)
    assert at - (frames - len(marker)) == pytest.approx(delay, abs=1)
    # Codecs of speech keep what a chirp means, and cut off their own delay at the end.
    assert likeness > (0.9 if rate > 8000 else 0.7)


def _marker(rate: int) -> Samples:
    """A rising tone of 40 ms."""
    t = np.arange(round(rate * MARKER_S)) / rate
    return np.asarray(0.8 * np.sin(2 * np.pi * (400 * t + 550 / MARKER_S * t * t)))


def _encode(path: Path, samples: Samples, codec: str, rate: int, channels: int) -> Path:
    layout = "mono" if channels == 1 else "stereo"
    options = {"strict": "-2"} | ({"b": BIT_RATES[codec]} if codec in BIT_RATES else {})
    form = MUXERS.get(path.suffix[1:], path.suffix[1:])
    with av.open(str(path), "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout, options=options)
        for start in range(0, len(samples), 4096):
            block = np.repeat(samples[start : start + 4096, None], channels, axis=1)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(block).reshape(1, -1), "dbl", layout
            )
            frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _find(samples: Samples, marker: Samples) -> tuple[int, float]:
    """Where the marker is, and the cosine between it and what is there."""
    half = len(samples) // 2
    # An encoder's delay may push its end out of the file.
    late = np.concatenate([samples[half:], np.zeros(len(marker))])
    products = np.abs(np.correlate(late, marker, "valid"))
    at = int(products.argmax())
    energy = np.linalg.norm(marker) * np.linalg.norm(late[at : at + len(marker)])
    return half + at, float(products[at] / max(energy, 1e-12))
