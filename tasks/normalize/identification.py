"""What a file is, without decoding it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import av

from tasks.contracts import SourceFormat
from tasks.errors import CorruptAudio, StemwrightError, from_os_error
from tasks.normalize.audio_file import AudioFile


def identify(path: Path) -> str:
    """The TRACK_ID of a file: the same after renaming or re-tagging it.

    It is the first 16 hex digits of the SHA-256 over the codec's name (FFmpeg's
    `avcodec_get_name`, in ASCII) and the bytes of the audio stream's packets as demuxed. The file
    is read through once and not decoded: a damaged one has an identity too.

    Raises:
        StemwrightError: It can't be read, or holds no audio (`SourceMissing`,
            `SourceUnreadable`, `NotAudio`, `EmptyAudio`, `CorruptAudio`).
    """
    try:
        with AudioFile(path) as source:
            for opened in source.parts():
                # A damaged container ends here for `normalize` too: the identity is the same.
                with contextlib.suppress(av.FFmpegError):
                    for _ in source.packets() if opened else ():
                        pass
            return source.track_id
    except (StemwrightError, av.FFmpegError, OSError) as error:
        raise translate(error, path.name) from error


def probe(path: Path) -> SourceFormat:
    """What a file's headers say of its audio. Reads no more than the beginning.

    Raises:
        StemwrightError: As `identify`.
    """
    try:
        with AudioFile(path, whole=False) as source:
            return source.format()
    except (StemwrightError, av.FFmpegError, OSError) as error:
        raise translate(error, path.name) from error


def duration_s(path: Path) -> float | None:
    """The seconds that a file's headers declare, or None where they declare none.

    A declaration may be off (a VBR MP3 without a frame count, chained streams): good for a plan,
    not for a check.

    Raises:
        StemwrightError: As `identify`.
    """
    try:
        with AudioFile(path, whole=False) as source:
            return source.declared_s
    except (StemwrightError, av.FFmpegError, OSError) as error:
        raise translate(error, path.name) from error


def translate(error: Exception, label: str) -> StemwrightError:
    """Any error of this room as one of the family, about this track and stage."""
    if isinstance(error, StemwrightError):
        return error.with_context(track=label, stage="normalize")
    if isinstance(error, av.FFmpegError):
        return CorruptAudio(
            f"it can't be decoded: {error.strerror}.", track=label, stage="normalize"
        )
    assert isinstance(error, OSError)
    return from_os_error(error, track=label, stage="normalize")
