"""Stems to files: one common gain, so that they still sum to the mixture, and no half files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tasks.contracts import BitDepth, StemFormat
from tasks.errors import ProtocolError, SettingsError, from_os_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUBTYPES: dict[BitDepth, str] = {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT"}
_BLOCK = 1 << 18
# A RIFF's sizes are 32-bit; RF64 is the same file with wider ones.
_WAV_LIMIT = 4_000_000_000


def check_format(format: StemFormat, bit_depth: BitDepth) -> None:
    """Refuse what no file can hold.

    Raises:
        SettingsError: FLAC has no floating point.
    """
    if format == "flac" and bit_depth == "32f":
        raise SettingsError(
            "FLAC can't hold floating-point samples.",
            remedy="Use --format wav with --bit-depth 32f, or a depth of 16 or 24.",
        )


class Samples(Protocol):
    """One stem's samples, wherever they are."""

    @property
    def channels(self) -> int: ...

    @property
    def frames(self) -> int: ...

    @property
    def peak(self) -> float:
        """Largest magnitude; not finite where a sample isn't."""
        ...

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All samples in order, (frames, channels) each."""
        ...


class InMemory:
    """Samples of an array of shape (channels, frames)."""

    def __init__(self, samples: NDArray[np.float32]) -> None:
        self._samples = samples
        self.channels, self.frames = samples.shape

    @property
    def peak(self) -> float:
        return _peak(self._samples)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        for start in range(0, self.frames, _BLOCK):
            yield self._samples[:, start : start + _BLOCK].T


class Spool:
    """One stem's samples on their way: raw float32 on the disk until their gain is known."""

    def __init__(self, path: Path, channels: int) -> None:
        self._path = path
        self.channels = channels
        self.frames = 0
        self.peak = 0.0
        self._file = path.open("wb")

    def write(self, block: NDArray[np.float32]) -> None:
        """Add samples, (channels, frames)."""
        largest = _peak(block)
        # A comparison with NaN is false: what isn't finite stays the peak.
        if not largest <= self.peak and np.isfinite(self.peak):
            self.peak = largest
        self.frames += block.shape[1]
        self._file.write(np.ascontiguousarray(block.T).data)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        self._file.flush()
        with self._path.open("rb") as file:
            while data := file.read(_BLOCK * self.channels * 4):
                yield np.frombuffer(data, np.float32).reshape(-1, self.channels)

    def remove(self) -> None:
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def spools(folder: Path, names: Iterable[str], channels: int) -> Iterator[dict[str, Spool]]:
    """A spool for each stem in `folder`, gone at the end, and the folder with it if it's new.

    Raises:
        DiskFull, StorageError: While any of them is written or read.
    """
    made: dict[str, Spool] = {}
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            made[name] = Spool(folder / f".{name}.{os.getpid()}.f32", channels)
        yield made
    except OSError as error:
        raise from_os_error(error, stage="separate") from error
    finally:
        for spool in made.values():
            spool.remove()
        if new:
            with suppress(OSError):  # it holds stems
                folder.rmdir()


def common_gain(stems: Mapping[str, Samples], bit_depth: BitDepth) -> float:
    """The largest gain, at most 1.0, at which no sample of any stem clips when written."""
    if bit_depth == "32f":
        return 1.0
    # Two steps under full scale, so that no meter takes the loudest sample for a clipped one.
    limit = 1.0 - 2.0 ** (2 - int(bit_depth))
    peak = max((samples.peak for samples in stems.values()), default=0.0)
    return limit / peak if peak > limit else 1.0


def write_stems(
    folder: Path,
    stems: Mapping[str, NDArray[np.float32] | Samples],
    sample_rate_hz: int,
    format: StemFormat = "flac",
    bit_depth: BitDepth = "24",
    gain: float | None = None,
    *,
    track: str = "",
) -> tuple[dict[str, Path], float]:
    """Write each stem to `folder/NAME.FORMAT`; the same samples give the same bytes.

    Args:
        folder: Made if needed.
        stems: Name to samples, full scale ±1; an array is float32 of shape (channels, frames).
        sample_rate_hz: Of all stems.
        gain: Applied to every stem; by default the largest that clips none. When missing stems
            are made again it must be that of the first writing.

    Returns:
        The files by name, and the gain.

    Raises:
        SettingsError: FLAC with floating-point samples.
        ProtocolError: Samples that are not finite numbers.
        DiskFull: No room; no file is left half written.
    """
    check_format(format, bit_depth)
    given = {
        name: InMemory(samples) if isinstance(samples, np.ndarray) else samples
        for name, samples in stems.items()
    }
    for name, samples in given.items():
        if not np.isfinite(samples.peak):
            raise ProtocolError(
                f"the model gave samples for {name} that are not finite numbers.",
                track=track,
                stage="separate",
            )
    gain = common_gain(given, bit_depth) if gain is None else gain
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = {}
        for name, samples in given.items():
            paths[name] = folder / f"{name}.{format}"
            _write(paths[name], samples, sample_rate_hz, format, SUBTYPES[bit_depth], gain)
    except OSError as error:
        raise from_os_error(error, track=track, stage="separate") from error
    return paths, gain


def _peak(samples: NDArray[np.float32]) -> float:
    # Of the extremes, not of the absolute values: no copy of the whole track. NaN stays NaN.
    return float(max(abs(samples.max()), abs(samples.min()))) if samples.size else 0.0


def _write(
    path: Path,
    samples: Samples,
    sample_rate_hz: int,
    format: StemFormat,
    subtype: str,
    gain: float,
) -> None:
    import soundfile

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    large = format == "wav" and samples.channels * samples.frames * 4 > _WAV_LIMIT
    container = "RF64" if large else format.upper()
    try:
        with _Sink(part, "wb+") as sink:
            try:
                with soundfile.SoundFile(
                    sink, "w", sample_rate_hz, samples.channels, subtype, format=container
                ) as file:
                    for block in samples.blocks():
                        file.write(block if gain == 1.0 else block * np.float32(gain))
            except (soundfile.LibsndfileError, AssertionError):
                if sink.failure is None:
                    raise
            if sink.failure:
                raise sink.failure
        if subtype == "FLOAT":
            _clear_timestamp(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class _Sink(io.FileIO):
    """A file that keeps its error: libsndfile forgets why a write failed, or that one did."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        view, written = memoryview(data), 0
        try:
            while written < len(view):
                written += super().write(view[written:]) or 0
        except OSError as error:
            self.failure = error
        return written


def _clear_timestamp(path: Path) -> None:
    # libsndfile dates a float WAV's PEAK chunk, which would make two equal files differ.
    with path.open("r+b") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            size = int.from_bytes(header[4:], "little")
            if header[:4] == b"PEAK":
                file.seek(4, os.SEEK_CUR)
                file.write(bytes(4))
                return
            if header[:4] == b"data":
                return
            file.seek(size + size % 2, os.SEEK_CUR)
