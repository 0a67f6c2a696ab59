"""Length is checked as containers really count: what they promise a block too much is accepted."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from tasks.contracts import Mixture
from tasks.errors import CorruptAudio
from tasks.normalize import identify
from tests.normalize.files import RATE, encode, mix, music, noise, samples_of, snr_db

FRAMES = 2 * RATE


def pages(data: bytes) -> Iterator[bytes]:
    """The pages of an Ogg file."""
    at = 0
    while at < len(data):
        segments = data[at + 26]
        size = 27 + segments + sum(data[at + 27 : at + 27 + segments])
        yield data[at : at + size]
        at += size


def granule(page: bytes) -> int:
    return int.from_bytes(page[6:14], "little", signed=True)


def ogg(path: Path, codec: str, rate: int = RATE, channels: int = 2) -> Path:
    """Two seconds in pages of a tenth of one."""
    return encode(
        path,
        music(2 * rate, rate, channels),
        codec,
        rate=rate,
        layout="stereo" if channels == 2 else "mono",
        options={"page_duration": "100000"},
        stream_options={"strict": "-2"},
    )


OGG = [("libopus", 48_000), ("vorbis", RATE), ("flac", RATE)]


@pytest.mark.parametrize("codec", ["adpcm_ima_wav", "adpcm_ms"])
def test_a_wav_may_count_a_part_of_a_block(tmp_path: Path, codec: str) -> None:
    path = encode(tmp_path / "a.wav", music(FRAMES), codec)
    mixture = mix(path)
    assert 0 <= mixture.frames - FRAMES < 2048
    assert mixture.source_promised_s is None


@pytest.mark.parametrize(("codec", "rate"), OGG)
def test_an_ogg_stream_recorded_from_its_middle_is_whole(
    tmp_path: Path, codec: str, rate: int
) -> None:
    path = ogg(tmp_path / "a.ogg", codec, rate)
    whole = list(pages(path.read_bytes()))
    heads = [page for page in whole if granule(page) <= 0]
    kept = [page for page in whole if granule(page) > rate]
    path.write_bytes(b"".join(heads + kept))
    mixture = mix(path, sample_rate_hz=rate)
    assert mixture.duration_s == pytest.approx(1.0, abs=0.11)
    assert (mixture.source_damages, mixture.source_promised_s) == (0, None)


@pytest.mark.parametrize(("codec", "rate"), OGG)
def test_a_page_lost_in_the_middle_is_silence_of_its_length(
    tmp_path: Path, codec: str, rate: int
) -> None:
    path = ogg(tmp_path / "a.ogg", codec, rate)
    original = samples_of(mix(path, sample_rate_hz=rate))
    whole = list(pages(path.read_bytes()))
    path.write_bytes(b"".join(whole[:10] + whole[11:]))
    mixture = mix(path, sample_rate_hz=rate)
    assert mixture.frames == len(original)
    assert mixture.source_damages == 1
    assert mixture.source_damaged_s == pytest.approx(0.1, abs=0.03)
    assert snr_db(original[-rate // 2 :], samples_of(mixture)[-rate // 2 :]) > 60


def test_an_ogg_stream_whose_first_page_is_broken_is_no_recording_from_the_middle(
    tmp_path: Path,
) -> None:
    soundfile.write(tmp_path / "a.ogg", music(4 * RATE), RATE)
    data = bytearray((tmp_path / "a.ogg").read_bytes())
    first = next(page for page in pages(bytes(data)) if granule(page) > 0)
    at = bytes(data).index(first) + len(first) // 2
    data[at : at + len(first)] = bytes(len(first))
    (tmp_path / "a.ogg").write_bytes(data)
    with pytest.raises(CorruptAudio):
        mix(tmp_path / "a.ogg")


def test_chained_streams_of_other_codecs_channels_and_rates_are_one_track(tmp_path: Path) -> None:
    links = [
        ogg(tmp_path / "1.ogg", "vorbis"),
        ogg(tmp_path / "2.ogg", "flac", 22_050, 1),
        ogg(tmp_path / "3.ogg", "libopus", 48_000),
    ]
    chain = tmp_path / "a.ogg"
    chain.write_bytes(b"".join(link.read_bytes() for link in links))
    alone = np.concatenate([samples_of(mix(link)) for link in links])
    mixture = mix(chain)
    assert mixture.frames == len(alone)
    assert snr_db(alone, samples_of(mixture)) > 100
    assert mixture.source_damages == 0
    assert mixture.notes[0] == "It holds 3 streams, one after the other."
    assert identify(chain) == mixture.track_id


def test_a_chain_cut_in_its_last_link_is_refused(tmp_path: Path) -> None:
    data = ogg(tmp_path / "a.ogg", "vorbis").read_bytes()
    (tmp_path / "a.ogg").write_bytes(data + data[: len(data) * 6 // 10])
    with pytest.raises(CorruptAudio, match="ends in the middle"):
        mix(tmp_path / "a.ogg")


def late(path: Path, codec: str, by_s: float, gap_s: float = 0.0) -> Path:
    """Audio whose first time stamp isn't zero, and with a pause after one second."""
    plain = encode(path.with_name("plain.mka"), music(FRAMES), codec)
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream: Any = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is None or packet.pts is None:
                continue
            shift = by_s + (gap_s if packet.pts * packet.time_base >= 1 else 0.0)
            packet.pts += round(shift / packet.time_base)
            packet.dts += round(shift / packet.time_base)
            packet.stream = stream
            target.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mka", "libmp3lame"), ("a.mka", "flac"), ("a.mp4", "aac"), ("a.ts", "aac")],
)
def test_a_late_start_is_no_part_of_the_audio(tmp_path: Path, name: str, codec: str) -> None:
    mixture = mix(late(tmp_path / name, codec, 1.5))
    assert mixture.duration_s == pytest.approx(2.0, abs=0.06)
    assert (mixture.source_damages, mixture.source_promised_s) == (0, None)


def test_a_pause_of_the_clock_is_silence_and_no_damage(tmp_path: Path) -> None:
    """As recorders leave it that send nothing while nobody speaks."""
    mixture = mix(late(tmp_path / "a.mka", "flac", 0.0, 2.0))
    assert mixture.duration_s == pytest.approx(4.0, abs=0.01)
    assert mixture.source_damages == 0
    assert not samples_of(mixture)[round(1.2 * RATE) : round(2.8 * RATE)].any()
    assert mixture.notes == ("Its pauses, 2.00 s, were filled with silence.",)


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of an MP4: name, offset and size."""
    while at + 8 <= end:
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        yield name, at, size
        if name in (b"moov", b"trak", b"edts"):
            yield from boxes(data, at + 8, at + size)
        at += size


def with_edits(path: Path, *edits: tuple[int, int]) -> Path:
    """An MP4 that plays these pieces: milliseconds, and the sample that they begin at."""
    data = bytearray(encode(path, music(4 * RATE), "aac").read_bytes())
    found = {name: (at, size) for name, at, size in boxes(bytes(data), 0, len(data))}
    at, size = found[b"elst"]
    entries = b"".join(struct.pack(">IiHH", *edit, 1, 0) for edit in edits)
    box = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    data[at : at + size] = box
    for name in (b"edts", b"trak", b"moov"):
        start, length = found[name]
        data[start : start + 4] = struct.pack(">I", length + len(box) - size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("edits", "seconds"),
    [
        ([(3000, RATE + 1024)], 3.0),
        ([(2500, 1024)], 2.5),
        ([(1000, -1), (4000, 1024)], 4.0),
        ([(1000, 1024), (1000, 2 * RATE)], 2.0),
        ([(4000, 1024), (4000, 1024)], 8.0),
    ],
    ids=["front", "back", "late", "two pieces", "twice"],
)
def test_mp4_edit_lists_are_kept(
    tmp_path: Path, edits: list[tuple[int, int]], seconds: float
) -> None:
    mixture = mix(with_edits(tmp_path / "a.m4a", *edits))
    assert mixture.duration_s == pytest.approx(seconds, abs=0.04)
    assert (mixture.source_damages, mixture.source_promised_s) == (0, None)


@pytest.mark.parametrize("tag_first", [True, False])
def test_an_id3_tag_in_front_is_skipped(tmp_path: Path, tag_first: bool) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE)
    tag = b"ID3\x04\0\0\0\0\x01\x10" + b"TIT2\0\0\0\x06\0\0\0Title" + bytes(121 + 0x10)
    tag = tag[: 10 + 0x90]
    data = (tmp_path / "a.wav").read_bytes()
    plain = mix(tmp_path / "a.wav")
    if tag_first:
        (tmp_path / "a.wav").write_bytes(tag + data)
    mixture = mix(tmp_path / "a.wav")
    assert mixture.frames == RATE
    assert mixture.track_id == plain.track_id


def test_64_bit_integers_are_read(tmp_path: Path) -> None:
    original = noise(RATE)
    mixture = mix(encode(tmp_path / "a.wav", original, "pcm_s64le"))
    assert np.abs(samples_of(mixture) - original).max() <= 2.0**-23


# --- what is missing ----------------------------------------------------------------------------


def cut(path: Path, seconds: float) -> Path:
    """A WAV without its last seconds."""
    soundfile.write(path, noise(20 * RATE, channels=1), RATE, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: -2 * round(seconds * RATE)])
    return path


@pytest.mark.parametrize("seconds", [0.01, 0.24])
def test_what_lacks_little_is_accepted_with_a_note(tmp_path: Path, seconds: float) -> None:
    mixture = mix(cut(tmp_path / "a.wav", seconds))
    assert mixture.frames == 20 * RATE - round(seconds * RATE)
    assert mixture.source_promised_s == pytest.approx(20.0)
    assert mixture.notes[-1].startswith("Its header promises 20.00 s; it holds ")


def test_what_lacks_more_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptAudio, match=r"promises 20\.0 s but only 19\.7 s"):
        mix(cut(tmp_path / "a.wav", 0.3))


def test_of_a_long_file_half_a_percent_may_be_missing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((100 * 8000, 1), np.int16) + 9, 8000)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[: -2 * 3900])
    assert mix(tmp_path / "a.wav").source_promised_s == pytest.approx(100.0)
    (tmp_path / "a.wav").write_bytes(data[: -2 * 4100])
    with pytest.raises(CorruptAudio):
        mix(tmp_path / "a.wav")


def test_a_report_from_before_loads(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE)
    told = mix(tmp_path / "a.wav").model_dump(mode="json")
    for name in ("source_promised_s", "source_damaged_s", "source_damages"):
        del told[name]
    loaded = Mixture.model_validate(told)
    assert (loaded.source_promised_s, loaded.source_damaged_s, loaded.source_damages) == (
        None,
        0.0,
        0,
    )
