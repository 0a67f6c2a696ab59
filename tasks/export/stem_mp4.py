"""`.stem.mp4`, the format of DJ programs: the mixture and four stems as streams of one file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks.audio.block_reader import Samples
from tasks.errors import SettingsError, StorageError
from tasks.export.encoding import Coding, Track, written

SUFFIX = "stem.mp4"
STEMS = ("drums", "bass", "other", "vocals")
"""In the order that the format's players show."""

_CODING = Coding("mp4", "aac", "fltp", 256_000)
_COLOURS = {"drums": "#009E73", "bass": "#D55E00", "other": "#CC79A7", "vocals": "#56B4E9"}
_HEAD = 8
# What players would do to the sum of the stems; off, as the stems sum to the mixture as they are.
_MASTERING = {
    "compressor": {
        "enabled": False,
        "ratio": 3,
        "output_gain": 0.5,
        "release": 0.3,
        "attack": 0.003,
        "input_gain": 0.5,
        "threshold": 0,
        "hp_cutoff": 300,
        "dry_wet": 50,
    },
    "limiter": {"enabled": False, "release": 0.05, "threshold": 0, "ceiling": -0.35},
}


def check_stems(names: Mapping[str, object], label: str) -> None:
    """Raise SettingsError unless these are the four that the format has."""
    if missing := [name for name in STEMS if name not in names]:
        raise SettingsError(
            f"{label}: a .{SUFFIX} holds {', '.join(STEMS)}; there is no {missing[0]}.",
            remedy="Separate with a model of these four stems, without --stems.",
        )


def write_stem_mp4(
    path: Path, mixture: Iterator[Samples], stems: Mapping[str, Iterator[Samples]], rate_hz: int
) -> None:
    """Write the streams: first the mixture, then each stem; `describe` must follow.

    Args:
        path: Where; what is there is overwritten.
        mixture: Blocks of samples, shape (frames, 2).
        stems: The same of each of `STEMS`, in blocks of the same lengths.
        rate_hz: Of the samples.

    Raises:
        StorageError, OSError: As `write_audio`.
    """
    with written(path, _CODING.container, {}, SUFFIX) as container:
        tracks = [Track(container, _CODING, 2, rate_hz) for _ in (None, *STEMS)]
        for blocks in zip(mixture, *(stems[name] for name in STEMS), strict=True):
            for track, block in zip(tracks, blocks, strict=True):
                track.write(block)
        for track in tracks:
            track.end()


def describe(path: Path) -> None:
    """Add what makes players see stems: a box `stem` in the file's `moov.udta`, of JSON.

    Last of all that is done to the file: the box is put at its end, where `moov` is.
    """
    document = {
        "mastering_dsp": _MASTERING,
        "version": 1,
        "stems": [{"color": _COLOURS[name], "name": name.capitalize()} for name in STEMS],
    }
    box = _box(b"stem", json.dumps(document).encode())
    with path.open("r+b") as file:
        data = file.read()
        at, moov = _last_box(data)
        if moov[4:8] != b"moov":
            raise StorageError(f"{path.name} isn't as FFmpeg's libraries write it.")
        file.seek(at)
        file.write(_with_user_data(moov, box))
        file.truncate()


def _with_user_data(moov: bytes, box: bytes) -> bytes:
    at = _HEAD
    while at < len(moov):
        size = int.from_bytes(moov[at : at + 4], "big")
        if moov[at + 4 : at + 8] == b"udta":
            udta = moov[at : at + size]
            inside = moov[_HEAD:at] + _box(b"udta", udta[_HEAD:] + box) + moov[at + size :]
            return _box(b"moov", inside)
        at += size
    return _box(b"moov", moov[_HEAD:] + _box(b"udta", box))


def _last_box(data: bytes) -> tuple[int, bytes]:
    at = last = 0
    while at + _HEAD <= len(data):
        last = at
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        at += size or len(data) - at
    return last, data[last:]


def _box(kind: bytes, inside: bytes) -> bytes:
    return (_HEAD + len(inside)).to_bytes(4, "big") + kind + inside
