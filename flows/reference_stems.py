"""Folders of mixtures with their reference stems, as MUSDB18-HQ has them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile as sf

from tasks.contracts import AudioPolicy, Mixture, SourceAudio, TrackRef, Value
from tasks.errors import CorruptAudio, IncompleteSeparation, SettingsError
from tasks.normalize import normalize
from tasks.paths import readable, text_of
from tasks.sources import fingerprint

SUFFIXES = (".wav", ".flac")
MIXTURE = "mixture"
BLOCK = 1 << 18
"""Frames held at a time when a mixture is made of its stems."""


class ReferenceTrack(Value):
    """A track with its reference stems. Without a mixture file, the stems' sum stands for it."""

    name: str
    mixture: Path | None
    stems: dict[str, Path]


class ReferenceStems(Value):
    """Reference stems of the mixture's shape, and what those that were changed were scaled by."""

    paths: dict[str, Path]
    gains: dict[str, float]


def find_tracks(folder: Path, stems: Sequence[str]) -> list[ReferenceTrack]:
    """Every folder under this one (itself included) that holds files named after stems.

    MUSDB18-HQ's `train` and `test` are folders like any other.

    Args:
        folder: Where to look.
        stems: The names that count, those of the model.

    Raises:
        SettingsError: There is no such folder, or no track in it.
    """
    if not folder.is_dir():
        raise SettingsError(f"there is no folder at {folder}.", remedy="Check the path.")
    places = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    found = [track for place in places if (track := _track_in(place, folder, stems))]
    if not found:
        raise SettingsError(
            f"no folder in {folder} holds reference stems.",
            remedy=f"A track is a folder with {', '.join(stems)} as .wav or .flac.",
        )
    return found


def _track_in(place: Path, root: Path, stems: Sequence[str]) -> ReferenceTrack | None:
    files = {name: path for name in (MIXTURE, *stems) if (path := _file(place, name))}
    mixture = files.pop(MIXTURE, None)
    if not files or (mixture is None and len(files) < 2):
        return None
    name = place.relative_to(root).as_posix() if place != root else place.resolve().name
    return ReferenceTrack(name=readable(name), mixture=mixture, stems=files)


def _file(place: Path, name: str) -> Path | None:
    paths = (place / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def mixture_of(track: ReferenceTrack, folder: Path, policy: AudioPolicy) -> Mixture:
    """The track's mixture, normalized as any source is, in `folder`.

    Raises:
        InputError: It isn't sound.
        IncompleteSeparation: There is none, and the stems' shapes differ.
    """
    path = track.mixture or _summed(track, folder / "sum.wav")
    return _normalized(path, track.name, folder, policy)


def _normalized(path: Path, title: str, folder: Path, policy: AudioPolicy) -> Mixture:
    ref = TrackRef(source=text_of(str(path)), kind="file", title=title)
    audio = SourceAudio(
        ref=ref,
        path=path,
        in_scratch=False,
        bytes=path.stat().st_size,
        fingerprint=fingerprint(ref),
    )
    return normalize(audio, folder, policy)


def _summed(track: ReferenceTrack, path: Path) -> Path:
    """The stems' sum as a 32-bit float WAV, made in blocks."""
    files = [sf.SoundFile(os.fsencode(stem)) for stem in track.stems.values()]
    try:
        if len({(file.frames, file.channels, file.samplerate) for file in files}) > 1:
            raise IncompleteSeparation(
                "it has no mixture file, and its stems differ in length, channels or rate.",
                track=track.name,
            )
        first = files[0]
        with sf.SoundFile(path, "w", first.samplerate, first.channels, "FLOAT") as out:
            for block in _sums(files):
                out.write(block)
    except sf.LibsndfileError as error:
        raise CorruptAudio("a reference stem can't be decoded.", track=track.name) from error
    finally:
        for file in files:
            file.close()
    return path


def _sums(
    files: Sequence[sf.SoundFile],
) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    while True:
        blocks = [file.read(BLOCK, dtype="float32", always_2d=True) for file in files]
        if not len(blocks[0]):
            return
        yield np.sum(blocks, axis=0, dtype=np.float32)


def reference_stems_of(
    track: ReferenceTrack, names: Sequence[str], mixture: Mixture, folder: Path
) -> ReferenceStems:
    """Return the reference stems in the mixture's rate and channels, normalized where they need it.

    Raises:
        InputError: One isn't sound.
    """
    paths: dict[str, Path] = {}
    gains: dict[str, float] = {}
    policy = AudioPolicy(sample_rate_hz=mixture.sample_rate_hz, bit_depth="32f")
    for name in names:
        path = track.stems[name]
        if _shape(path, track.name) != (mixture.sample_rate_hz, mixture.channels):
            made = _normalized(path, f"{track.name}, {name}", folder / name, policy)
            path, gains[name] = made.path, made.gain
        paths[name] = path
    return ReferenceStems(paths=paths, gains=gains)


def _shape(path: Path, track: str) -> tuple[int, int]:
    try:
        info = sf.info(os.fsencode(path))  # a name needn't be UTF-8
    except sf.LibsndfileError as error:
        raise CorruptAudio(f"{path.name} can't be opened as audio.", track=track) from error
    return info.samplerate, info.channels
