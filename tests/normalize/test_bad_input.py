"""Each kind of bad input gives one clear error, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tasks.contracts import AudioPolicy
from tasks.errors import (
    CorruptAudio,
    EmptyAudio,
    NotAudio,
    SourceMissing,
    SourceRefused,
    SourceUnreadable,
    StemwrightError,
)
from tasks.normalize import avio, identify, normalize, probe
from tests.normalize.files import RATE, audio_of, encode, mix, music, noise, remux, tone

SECONDS = 4
FRAMES = SECONDS * RATE


def failure(path: Path, kind: type[StemwrightError], **policy: Any) -> str:
    """The cause of the one error that a file gives; it leaves nothing in the folder."""
    folder = path.parent / "out"
    with pytest.raises(kind) as caught:
        mix(path, folder, **policy)
    assert not folder.exists() or not list(folder.iterdir())
    assert type(caught.value) is kind
    assert caught.value.stage == "normalize"
    assert caught.value.track == path.name
    assert caught.value.remedy
    assert not caught.value.retryable
    return caught.value.cause


def test_text_named_mp3(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_text("This is no music.\n" * 500)
    assert "no audio file" in failure(tmp_path / "a.mp3", NotAudio)


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac", "a"])
def test_random_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(3).bytes(4000))
    with pytest.raises((NotAudio, CorruptAudio)):
        mix(tmp_path / name)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert failure(tmp_path / "a.wav", EmptyAudio) == "the file is empty."


def test_a_video_without_audio(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, width=64, height=64)
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), "yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert failure(tmp_path / "a.mp4", NotAudio) == "it holds video but no audio."


def test_no_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), RATE)
    assert failure(tmp_path / "a.wav", EmptyAudio) == "its audio stream holds no samples."


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_too_short(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, noise(RATE // 20), RATE)
    cause = failure(tmp_path / name, EmptyAudio)
    assert cause == "it holds only 0.050 s of audio; the least is 0.100 s."


def test_ten_hours_are_refused_by_the_header_alone(tmp_path: Path) -> None:
    """The file has only its first second: nothing of it needs to be decoded to tell."""
    soundfile.write(tmp_path / "a.flac", noise(RATE, channels=1), RATE)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    hours = 10 * 3600 * RATE
    data[21:26] = bytes([data[21] & 0xF0 | hours >> 32]) + struct.pack(">I", hours & 0xFFFFFFFF)
    (tmp_path / "a.flac").write_bytes(data)
    cause = failure(tmp_path / "a.flac", SourceRefused)
    assert cause == "it is 36000.0 s long or longer; the limit is 14400.0 s."


@pytest.mark.parametrize("name", ["a.wav", "a.aac"])
def test_a_longer_one_than_the_limit_is_refused(tmp_path: Path, name: str) -> None:
    codec = {".wav": "pcm_s16le", ".aac": "aac"}[Path(name).suffix]
    encode(tmp_path / name, music(FRAMES), codec)
    assert "the limit is 2.5 s" in failure(tmp_path / name, SourceRefused, max_duration_s=2.5)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "there is no file" in failure(tmp_path / "a.wav", SourceMissing)


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.wav").mkdir()
    assert failure(tmp_path / "a.wav", NotAudio) == "it is a folder."


def test_a_file_that_may_not_be_read() -> None:
    # pytest's own folders admit nobody but the user: that would be another error.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        soundfile.write(path, noise(RATE), RATE)
        audio = audio_of(path)
        Path(folder).chmod(0o755)
        path.chmod(0)
        with _without_privileges(), pytest.raises(SourceUnreadable) as caught:
            normalize(audio, Path(folder) / "out", AudioPolicy())
    assert "may not be read" in caught.value.cause


@contextlib.contextmanager
def _without_privileges() -> Iterator[None]:
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("name", ["a.wav", "a.m4a", "a.flac"])
def test_a_disk_that_fails_is_not_taken_for_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    codec = {"a.wav": "pcm_s16le", "a.m4a": "alac", "a.flac": "flac"}[name]
    path = encode(tmp_path / name, noise(FRAMES), codec)
    read = avio.ReadFile.read

    def failing(self: avio.ReadFile, size: int) -> bytes:
        if path.stat().st_size * 0.5 < self.tell() < path.stat().st_size * 0.9:
            self.error = OSError(errno.EIO, "Input/output error", self.name)
            return b""
        return read(self, size)

    monkeypatch.setattr(avio.ReadFile, "read", failing)
    with pytest.raises(StemwrightError) as caught:
        mix(path)
    assert "Input/output error" in caught.value.cause


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_that_are_not_finite(tmp_path: Path, value: float, subtype: str) -> None:
    samples = tone(FRAMES)
    samples[RATE : RATE + 3, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype=subtype)
    cause = failure(tmp_path / "a.wav", CorruptAudio)
    assert "the first at 1.000 s" in cause
    assert "3 of" in cause


def _m4a(path: Path) -> Path:
    plain = encode(path.with_name("plain.m4a"), music(FRAMES), "aac")
    return remux(plain, path, movflags="+faststart")


def _with(codec: str, rate: int = RATE, video: str = "") -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        return encode(path, music(SECONDS * rate, rate), codec, rate=rate, video=video)

    return make


CONTAINERS = [
    ("a.wav", _with("pcm_s16le")),
    ("a.aiff", _with("pcm_s16be")),
    ("a.flac", _with("flac")),
    ("a.mp3", _with("libmp3lame")),
    ("a.m4a", _m4a),
    ("a.webm", _with("libopus", 48_000)),
    ("v.webm", _with("libopus", 48_000, "libvpx")),
    ("a.wv", _with("wavpack")),
    ("a.tta", _with("tta")),
]


@pytest.mark.parametrize(("name", "make"), CONTAINERS)
def test_a_truncated_file_says_how_much_there_is(
    tmp_path: Path, name: str, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    cause = failure(path, CorruptAudio)
    assert cause.startswith("the header promises 4.0 s but only ")
    decoded = float(cause.split("only ")[1].split(" s")[0])
    assert 0.5 <= decoded <= 3.0


@pytest.mark.parametrize("name", ["a.opus", "a.ogg"])
def test_a_truncated_ogg_is_told_by_its_last_page(tmp_path: Path, name: str) -> None:
    subtype = {"a.opus": "OPUS", "a.ogg": "VORBIS"}[name]
    rate = 48_000
    soundfile.write(tmp_path / name, noise(SECONDS * rate), rate, format="OGG", subtype=subtype)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
    assert "ends in the middle of its audio" in failure(tmp_path / name, CorruptAudio)


def test_an_mp4_without_its_index(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", music(FRAMES), "aac")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    assert "begins like an MP4 file" in failure(path, CorruptAudio)


@pytest.mark.parametrize(
    ("name", "make"),
    [(name, make) for name, make in CONTAINERS if name in ("a.flac", "a.mp3", "a.m4a", "a.tta")],
)
def test_damage_in_the_middle_is_placed(
    tmp_path: Path, name: str, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / name)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)
    cause = failure(path, CorruptAudio, damaged="refuse")
    assert cause.startswith("its audio is damaged at ")
    assert 0.8 <= float(cause.split(" at ")[1].rstrip(" s.")) <= 3.0


def test_damage_in_a_codec_with_checksums_is_found_bit_by_bit(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.flac", noise(FRAMES), "flac", sample_format="s16")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    cause = failure(path, CorruptAudio, damaged="refuse")
    assert cause.startswith("its audio is damaged at ")


@pytest.mark.parametrize(
    "tail",
    [b"TAG" + bytes(125), b"\0" * 3000, b"made by a player " * 40],
    ids=["ID3v1", "zeros", "words"],
)
@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.wav", "a.m4a"])
def test_what_follows_the_audio_is_harmless(tmp_path: Path, name: str, tail: bytes) -> None:
    codec = {"a.mp3": "libmp3lame", "a.flac": "flac", "a.wav": "pcm_s16le", "a.m4a": "aac"}[name]
    path = encode(tmp_path / name, music(FRAMES), codec)
    path.write_bytes(path.read_bytes() + tail)
    assert mix(path).frames == FRAMES


def test_what_precedes_an_mp3_s_first_frame_is_harmless(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", music(FRAMES), "libmp3lame", options={"id3v2_version": "0"})
    path.write_bytes(b"made by a player " * 20 + path.read_bytes())
    # FFmpeg looks for the encoder's delay right at the start, and leaves it in here.
    assert mix(path).duration_s == pytest.approx(SECONDS, abs=0.1)


def test_joined_mp3s_promise_what_their_first_one_does(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.mp3", music(FRAMES), "libmp3lame", options={"id3v2_version": "0"})
    second = encode(tmp_path / "b.mp3", noise(RATE), "libmp3lame", options={"id3v2_version": "0"})
    first.write_bytes(first.read_bytes() + second.read_bytes())
    assert mix(first).duration_s == pytest.approx(SECONDS + 1, abs=0.15)


def test_an_mp3_without_a_frame_count_promises_nothing(tmp_path: Path) -> None:
    """Its duration is then a guess from the first frame's bit rate, here far too long."""
    quiet, loud = np.zeros((FRAMES, 2)), noise(FRAMES)
    path = encode(
        tmp_path / "a.mp3",
        np.concatenate([quiet, loud]),
        "libmp3lame",
        options={"write_xing": "0"},
        stream_options={"qscale": "0", "flags": "+qscale"},
    )
    mixture = mix(path)
    assert mixture.duration_s == pytest.approx(2 * SECONDS, abs=0.1)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_that_was_piped_promises_nothing(tmp_path: Path, size: int) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE, subtype="PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(data)
    assert mix(tmp_path / "a.wav").frames == RATE


def test_a_playlist_opens_nothing_else(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", noise(RATE), RATE)
    for name, text in [
        ("a.mp3", "ffconcat version 1.0\nfile secret.wav\n"),
        ("b.mp3", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/secret.wav\n"),
    ]:
        (tmp_path / name).write_text(text)
        failure(tmp_path / name, NotAudio)


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("http:song.wav", noise(RATE), RATE)
    assert mix(Path("http:song.wav")).frames == RATE


def test_identify_and_probe_speak_of_the_same_errors(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_text("This is no music.\n" * 500)
    for ask in (identify, probe):
        with pytest.raises(NotAudio) as caught:
            ask(tmp_path / "a.mp3")
        assert (caught.value.stage, caught.value.track) == ("normalize", "a.mp3")
        with pytest.raises(SourceMissing):
            ask(tmp_path / "b.mp3")


def test_a_damaged_file_has_an_identity(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.tta", music(FRAMES), "tta")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert len(identify(path)) == 16
