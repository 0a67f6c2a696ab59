"""Every codec comes out at its own length, sounding like what was encoded, and is described."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from tasks.normalize import probe
from tests.normalize.files import (
    RATE,
    Samples,
    encode,
    frame_of,
    integers_of,
    mix,
    music,
    noise,
    remux,
    samples_of,
    snr_db,
)

FRAMES = 2 * RATE + 123


@pytest.mark.parametrize(
    ("name", "subtype", "bits"),
    [
        ("a.wav", "PCM_16", 16),
        ("a.wav", "PCM_24", 24),
        ("a.wav", "PCM_U8", 8),
        ("a.flac", "PCM_16", 16),
        ("a.flac", "PCM_24", 24),
        ("a.aiff", "PCM_16", 16),
        ("a.aiff", "PCM_24", 24),
        ("a.caf", "PCM_24", 24),
        ("a.w64", "PCM_16", 16),
        ("a.au", "PCM_16", 16),
    ],
)
def test_integers_pass_through_exactly(tmp_path: Path, name: str, subtype: str, bits: int) -> None:
    soundfile.write(tmp_path / name, noise(FRAMES, level=1.0), RATE, subtype=subtype)
    written = soundfile.read(tmp_path / name, dtype="int32")[0]

    mixture = mix(tmp_path / name)

    assert np.array_equal(integers_of(mixture), written)
    assert mixture.gain == 1.0
    assert mixture.notes == ()
    assert mixture.bit_depth == "24"
    assert mixture.source.bit_depth == str(bits)
    assert not mixture.source.lossy


@pytest.mark.parametrize(
    ("name", "codec", "sample_format"),
    [
        ("a.m4a", "alac", "s16p"),
        ("a.m4a", "alac", "s32p"),
        ("a.tta", "tta", "s32"),
        ("a.mov", "pcm_s24le", None),
        ("a.mka", "flac", "s16"),
    ],
)
def test_lossless_codecs_pass_through_exactly(
    tmp_path: Path, name: str, codec: str, sample_format: str | None
) -> None:
    bits = 16 if sample_format in ("s16", "s16p") else 24
    steps = np.rint(noise(FRAMES) * 2 ** (bits - 1))
    encode(tmp_path / name, steps / 2 ** (bits - 1), codec, sample_format=sample_format)

    mixture = mix(tmp_path / name)

    assert np.array_equal(integers_of(mixture), steps.astype(np.int64) << (32 - bits))
    assert mixture.source.bit_depth == str(bits)
    assert mixture.source.codec == codec
    assert not mixture.source.lossy


def _sndfile(format: str, subtype: str) -> Callable[[Path, Samples, int], Path]:
    def write(path: Path, samples: Samples, rate: int) -> Path:
        soundfile.write(path, samples, rate, format=format, subtype=subtype)
        return path

    return write


def _ffmpeg(codec: str, video: str = "") -> Callable[[Path, Samples, int], Path]:
    def write(path: Path, samples: Samples, rate: int) -> Path:
        return encode(path, samples, codec, rate=rate, video=video)

    return write


@pytest.mark.parametrize(
    ("name", "write", "rate", "codec", "container"),
    [
        ("a.mp3", _sndfile("MP3", "MPEG_LAYER_III"), RATE, "mp3", "mp3"),
        ("b.mp3", _ffmpeg("libmp3lame"), RATE, "mp3", "mp3"),
        ("a.ogg", _sndfile("OGG", "VORBIS"), RATE, "vorbis", "ogg"),
        ("a.opus", _sndfile("OGG", "OPUS"), 48_000, "opus", "ogg"),
        ("b.opus", _ffmpeg("libopus"), 48_000, "opus", "ogg"),
        ("a.webm", _ffmpeg("libopus"), 48_000, "opus", "webm"),
        ("v.webm", _ffmpeg("libopus", video="libvpx"), 48_000, "opus", "webm"),
        ("a.m4a", _ffmpeg("aac"), RATE, "aac", "m4a"),
        ("v.mp4", _ffmpeg("aac", video="mpeg4"), RATE, "aac", "mp4"),
    ],
)
def test_lossy_codecs_come_out_sample_exact(
    tmp_path: Path,
    name: str,
    write: Callable[[Path, Samples, int], Path],
    rate: int,
    codec: str,
    container: str,
) -> None:
    """No priming at the start, no padding at the end: aligned to the sample with the original."""
    original = music(2 * rate + 123, rate)
    path = write(tmp_path / name, original, rate)

    mixture = mix(path, sample_rate_hz=rate)

    assert mixture.frames == len(original)
    samples = samples_of(mixture)
    assert snr_db(original, samples) > 20
    inner = samples[100:-100]
    by_lag = {lag: snr_db(original[100 + lag :][: len(inner)], inner) for lag in range(-60, 61)}
    assert max(by_lag, key=by_lag.__getitem__) == 0
    assert mixture.source.codec == codec
    assert mixture.source.container == container
    assert mixture.source.lossy
    assert mixture.source.bit_depth is None
    assert mixture.source.bit_rate_bps is not None
    assert 10_000 < mixture.source.bit_rate_bps < 400_000


def test_a_streamable_mp4_ends_where_its_sample_table_does(tmp_path: Path) -> None:
    original = music(FRAMES)
    plain = encode(tmp_path / "a.m4a", original, "aac")
    fast = remux(plain, tmp_path / "b.m4a", movflags="+faststart")
    assert mix(fast).frames == FRAMES


@pytest.mark.parametrize(
    ("subtype", "depth", "words"),
    [
        ("PCM_32", "32", "32-bit integer samples were rounded to 24 bits"),
        ("FLOAT", "32f", "32-bit float samples were rounded to 24 bits"),
        ("DOUBLE", "64f", "64-bit float samples were rounded to 24 bits"),
    ],
)
def test_a_depth_beyond_flac_is_never_lowered_silently(
    tmp_path: Path, subtype: str, depth: str, words: str
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE, subtype=subtype)
    original = soundfile.read(tmp_path / "a.wav")[0]
    mixture = mix(tmp_path / "a.wav")
    assert mixture.source.bit_depth == depth
    assert mixture.bit_depth == "24"
    assert any(words in note for note in mixture.notes)
    assert np.abs(samples_of(mixture) - original).max() <= 2.0**-24


@pytest.mark.parametrize(
    ("subtype", "least", "depth"),
    [
        ("PCM_16", "16", "16"),
        ("PCM_16", "24", "24"),
        ("PCM_24", "16", "24"),
        ("FLOAT", "16", "24"),
        ("PCM_16", "32f", "32f"),
        ("FLOAT", "32f", "32f"),
    ],
)
def test_the_policy_s_depth_is_the_least(
    tmp_path: Path, subtype: str, least: str, depth: str
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE, subtype=subtype)
    mixture = mix(tmp_path / "a.wav", bit_depth=least)
    info = soundfile.info(mixture.path)
    assert mixture.bit_depth == depth
    assert info.subtype == {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT"}[depth]
    assert mixture.path.name == ("mixture.wav" if depth == "32f" else "mixture.flac")


def test_a_lossy_source_takes_the_policy_s_depth(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", music(RATE), RATE)
    assert mix(tmp_path / "a.mp3", bit_depth="16").bit_depth == "16"


def test_float_samples_pass_through_a_float_mixture_exactly(tmp_path: Path) -> None:
    original = noise(RATE).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", original, RATE, subtype="FLOAT")
    mixture = mix(tmp_path / "a.wav", bit_depth="32f")
    assert np.array_equal(samples_of(mixture), original)
    assert mixture.notes == ()


@pytest.mark.parametrize(
    ("default", "expected"), [(None, 6), (0, 2)], ids=["most channels", "default"]
)
def test_the_best_of_several_streams_is_taken(
    tmp_path: Path, default: int | None, expected: int
) -> None:
    with av.open(str(tmp_path / "a.mka"), "w") as container:
        streams: list[Any] = [
            container.add_stream("flac", rate=RATE, layout=layout, format="s16")
            for layout in ("stereo", "5.1")
        ]
        for index, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if index == default else 0
        for stream, channels in zip(streams, (2, 6), strict=True):
            frame = frame_of(noise(RATE, channels), 0, RATE, stream.layout.name)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    assert mix(tmp_path / "a.mka").source.channels == expected


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    flac: Any = import_module("mutagen.flac")  # mutagen has no type hints
    soundfile.write(tmp_path / "a.flac", noise(RATE), RATE)
    tagged = flac.FLAC(tmp_path / "a.flac")
    picture = flac.Picture()
    picture.data, picture.mime, picture.type = _png(), "image/png", 3
    tagged.add_picture(picture)
    tagged.save()
    assert mix(tmp_path / "a.flac").frames == RATE


def _png() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1, width=16, height=16, pix_fmt="rgb24")
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def test_probe_reads_the_headers_only(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", noise(RATE, 6), "pcm_s24le", layout="5.1", rate=48_000)
    found = probe(path)
    assert found.model_dump() == {
        "container": "wav",
        "codec": "pcm_s24le",
        "sample_rate_hz": 48_000,
        "channels": 6,
        "channel_layout": "5.1",
        "bit_depth": "24",
        "bit_rate_bps": 48_000 * 6 * 24,
        "lossy": False,
    }
    assert mix(path).source == found
