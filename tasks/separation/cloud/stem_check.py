"""What a service sent as a stem: decoded to its end, checked, and kept the way settings say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tasks.contracts import BitDepth, Mixture, StemFormat, Value
from tasks.separation.cloud.answers import broken
from tasks.separation.cloud.downloads import Download, StemUnsound
from tasks.separation.stem_files import SUBTYPES, write_stems

_BLOCK = 1 << 16
_QUOTED = 120
# Lossy codecs change a stem's length and its sum with the others.
_LOSSLESS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "AIFF", "CAF")


class DownloadedStem(Value):
    """A stem's file that holds what it should; `gain` is what the service multiplied it by."""

    name: str
    path: Path
    container: str
    subtype: str
    gain: float = 1.0


def check_audio(
    path: Path, name: str, expected: Download, *, lossless: bool = True
) -> DownloadedStem:
    """Decode a file to its end and compare it with what it has to be.

    Raises:
        StemUnsound: Not audio, a lossy codec, another rate, channel count or length, or samples
            that are not finite numbers.
    """
    import soundfile

    frames = 0
    try:
        with soundfile.SoundFile(str(path)) as file:
            found = (file.samplerate, file.channels)
            container, subtype, promised = file.format, file.subtype, file.frames
            for block in file.blocks(_BLOCK, dtype="float32"):
                frames += len(block)
                if not math.isfinite(float(np.sum(block))):
                    raise _unlike(name, "holds samples that are not finite numbers")
    except soundfile.LibsndfileError as error:
        with path.open("rb") as raw:
            quoted = broken(f"{name} can't be decoded", raw.read(_QUOTED))
        raise StemUnsound(quoted.cause, stage="separate") from error
    if lossless and container not in _LOSSLESS:
        raise _unlike(name, f"is {container}, which isn't lossless")
    wanted = (expected.sample_rate_hz, expected.channels)
    for what, is_, due in zip(("sample rate", "channels"), found, wanted, strict=True):
        if due is not None and is_ != due:
            raise _unlike(name, f"has {what} {is_} where {due} was due")
    if frames != promised:
        raise _unlike(name, f"ends after {frames} of {promised} frames")
    if expected.frames is not None and frames != expected.frames:
        raise _unlike(name, f"has {frames} frames, the mixture {expected.frames}")
    return DownloadedStem(name=name, path=path, container=container, subtype=subtype)


def keep(
    stem: DownloadedStem, folder: Path, format: StemFormat, bit_depth: BitDepth, gain: float
) -> Path:
    """Put a stem into `folder` as `NAME.FORMAT`, with `gain` in place of its own.

    As it came where that is what is wanted, else written anew.

    Raises:
        DiskFull: No room.
    """
    path = folder / f"{stem.name}.{format}"
    as_it_is = (format.upper(), SUBTYPES[bit_depth], gain)
    if (stem.container, stem.subtype, stem.gain) == as_it_is:
        stem.path.replace(path)
        return path
    import soundfile

    samples, rate = soundfile.read(str(stem.path), dtype="float32", always_2d=True)
    ratio = gain / stem.gain
    write_stems(folder, {stem.name: samples.T}, rate, format, bit_depth, ratio)
    stem.path.unlink()
    return path


def write_silence(
    name: str, mixture: Mixture, folder: Path, format: StemFormat, bit_depth: BitDepth
) -> Path:
    """A stem of silence, as long as the mixture.

    Raises:
        DiskFull: No room.
    """
    silence = np.broadcast_to(np.float32(0), (mixture.channels, mixture.frames))
    paths, _ = write_stems(folder, {name: silence}, mixture.sample_rate_hz, format, bit_depth, 1.0)
    return paths[name]


def _unlike(name: str, what: str) -> StemUnsound:
    return StemUnsound(f"the service's {name} {what}.", stage="separate")
