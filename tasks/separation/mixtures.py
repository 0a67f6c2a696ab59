"""Reading a mixture's samples, and making one of a file that no stage has normalized."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.contracts import Mixture, SourceFormat, TrackRef
from tasks.errors import (
    ContractBroken,
    CorruptAudio,
    EmptyAudio,
    NotAudio,
    from_os_error,
)
from tasks.separation.stem_files import write_stems

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOSSY = ("MP3", "OGG", "MPEG")


def read_mixture(mixture: Mixture) -> NDArray[np.float32]:
    """Read a mixture's samples, shape (channels, frames), float32.

    Raises:
        SourceMissing: The file is gone.
        CorruptAudio: It can't be decoded, or holds samples that are not finite numbers.
        ContractBroken: It isn't what the value says it is.
    """
    samples, rate = _read(mixture.path)
    if (rate, *samples.shape) != (mixture.sample_rate_hz, mixture.channels, mixture.frames):
        raise ContractBroken(
            f"{mixture.path.name} holds {samples.shape[0]} x {samples.shape[1]} samples at "
            f"{rate} Hz, not {mixture.channels} x {mixture.frames} at {mixture.sample_rate_hz} Hz.",
            stage="separate",
        )
    if not np.isfinite(samples).all():
        raise CorruptAudio("it holds samples that are not finite numbers.", stage="separate")
    return samples


def prepare(path: Path, folder: Path, sample_rate_hz: int, channels: int = 2) -> Mixture:
    """Make a mixture in `folder` of any file that libsndfile reads: WAV, FLAC, AIFF, MP3, Ogg.

    Resampled by soxr (VHQ) to `sample_rate_hz`; mono is doubled. What needs more than that
    (other codecs, surround) is the normalize stage's.

    Raises:
        SourceMissing, NotAudio, EmptyAudio, CorruptAudio, DiskFull.
    """
    import soundfile
    import soxr

    label = path.name
    samples, rate = _read(path, "Normalize it first: its codec isn't one that is read here.")
    if samples.shape[1] == 0:
        raise EmptyAudio("it holds no samples.", track=label, stage="normalize")
    if samples.shape[0] == 1:
        samples = np.repeat(samples, channels, axis=0)
    if samples.shape[0] != channels:
        raise NotAudio(
            f"it has {samples.shape[0]} channels.",
            track=label,
            stage="normalize",
            remedy="Normalize it to stereo first.",
        )
    if not np.isfinite(samples).all():
        raise CorruptAudio(
            "it holds samples that are not finite numbers.", track=label, stage="normalize"
        )
    info = soundfile.info(str(path))
    if rate != sample_rate_hz:
        samples = soxr.resample(samples.T, rate, sample_rate_hz, quality="VHQ").T
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    paths, _ = write_stems(folder, {"mixture": samples}, sample_rate_hz, "wav", "32f", track=label)
    peak = float(np.abs(samples).max())
    return Mixture(
        ref=TrackRef(source=str(path), kind="file"),
        track_id=hashlib.sha256(samples.tobytes()).hexdigest()[:16],
        path=paths["mixture"],
        sample_rate_hz=sample_rate_hz,
        channels=channels,
        frames=samples.shape[1],
        bit_depth="32f",
        peak=peak,
        silent=peak == 0.0,
        source=SourceFormat(
            container=info.format.lower(),
            codec=info.subtype.lower(),
            sample_rate_hz=rate,
            channels=info.channels,
            lossy=info.format in _LOSSY,
        ),
        source_bytes=path.stat().st_size,
    )


def _read(path: Path, remedy: str = "") -> tuple[NDArray[np.float32], int]:
    import soundfile

    try:
        path.open("rb").close()
    except OSError as error:
        raise from_os_error(error, track=path.name, stage="separate") from error
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        kind = NotAudio if remedy else CorruptAudio
        raise kind(
            f"it can't be decoded ({error.error_string})",
            track=path.name,
            stage="separate",
            remedy=remedy,
        ) from error
    return np.ascontiguousarray(samples.T), int(rate)
