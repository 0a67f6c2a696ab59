"""The files of a separation, read block by block wherever the library is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tasks.audio.block_reader import AudioFile
from tasks.contracts import TrackReport
from tasks.errors import StemwrightError
from tasks.recording.gallery.previews import Preview
from tasks.recording.gallery.spectrogram import Look, Looking
from tasks.recording.library import Library

MIXTURE = "mixture"

_BLOCK = 1 << 17


class SignalUnreadable(StemwrightError):
    """A stem's file is gone or broken. The page says so in its place."""


def signal_files(report: TrackReport) -> dict[str, str]:
    """The mixture and the stems by name: bare file names, whatever the sidecar says."""
    stems = report.stem_set.stems
    order = [name for name in report.stem_set.expected if name in stems]
    order += [name for name in stems if name not in order]
    return {MIXTURE: report.mixture.path.name} | {name: stems[name].name for name in order}


@contextmanager
def on_disk(library: Library, report: TrackReport, file: str) -> Iterator[Path]:
    """A separation's file as a local path: itself, or a copy that is gone afterwards.

    Raises:
        SignalUnreadable: It can't be fetched.
    """
    folder = library.folder(report.track_id, report.separation_id)
    if library.is_local:
        yield Path(folder) / file
        return
    import fsspec

    with tempfile.TemporaryDirectory(prefix="stemwright-gallery-") as scratch:
        copy = Path(scratch) / "signal"
        try:
            fs, path = fsspec.core.url_to_fs(f"{folder}/{file}")
            fs.get_file(path, str(copy))
        except Exception as error:  # whatever a driver's SDK raises
            cause = f"{file} can't be fetched: {type(error).__name__}."
            raise SignalUnreadable(cause, track=report.label) from error
        yield copy


def observe(
    path: Path, *, preview: bool = False, label: str = "", name: str = ""
) -> tuple[Look, bytes]:
    """Read a signal once: how it looks and, if asked for, its preview (else empty).

    Raises:
        SignalUnreadable: There is no such file, or it isn't audio.
    """
    try:
        with AudioFile(path) as file:
            looking = Looking(file.frames, file.sample_rate_hz)
            encoder = Preview(file.sample_rate_hz) if preview else None
            for block in file.blocks(_BLOCK):
                np.nan_to_num(block, copy=False, posinf=1, neginf=-1)
                looking.add(block)
                if encoder:
                    encoder.add(block)
            return looking.finish(), encoder.finish() if encoder else b""
    except StemwrightError as error:
        missing = not path.exists()
        cause = f"{name or path.name} is {'missing' if missing else 'broken'}."
        raise SignalUnreadable(cause, track=label) from error
