"""Whatever goes wrong while recording, as one of our own errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tasks.errors import (
    NetworkError,
    ProtocolError,
    SettingsError,
    StemwrightError,
    from_os_error,
)

STAGE = "record"
REBUILD = "`stemwright reports --rebuild` makes the tables anew from the report.json files."


def damaged(cause: str, remedy: str = "") -> ProtocolError:
    """Return the error for something in a library that isn't as we left it."""
    return ProtocolError(cause, stage=STAGE, remedy=remedy)


def incomplete(place: str, missing: Sequence[str]) -> ProtocolError:
    """Return the error for a separation that has lost files since it was finished."""
    cause = f"{place} has lost {', '.join(missing)} (gone, empty or cut short)."
    return damaged(cause, "Run `stemwright separate` on its source again: it is made anew.")


def storage_error(error: OSError) -> StemwrightError:
    """Return an error of the library's own storage as one of ours.

    A library that can't be written is a matter of settings: as an `InputError` the next run
    would hold it against the track and skip it.
    """
    where = error.filename or "the library"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        cause, remedy = f"{where} may not be written.", "Check its permissions, or set --library."
        return SettingsError(cause, stage=STAGE, remedy=remedy)
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        cause = f"{where} is in the way: a folder has to be there."
        return SettingsError(cause, stage=STAGE, remedy="Move it away, or set --library.")
    if error.errno == errno.EXDEV:
        cause = f"{where} is on another file system than the library's scratch."
        return SettingsError(cause, stage=STAGE, remedy="Keep a library on one file system.")
    if isinstance(error, FileNotFoundError):
        return damaged(f"{where} is gone from the library.")
    return from_os_error(error, stage=STAGE)


@contextmanager
def translated(label: str = "", *, remote: bool = False) -> Iterator[None]:
    """Raise only our own errors, about the track `label`, of the stage "record".

    `remote`: drivers of object stores raise whatever their SDK does; it counts as a fault of
    the network.
    """
    try:
        yield
    except StemwrightError as error:
        error.with_context(track=label, stage=STAGE)
        raise
    except OSError as error:
        raise storage_error(error).with_context(track=label) from error
    except Exception as error:
        if not remote:
            raise
        cause = f"the object store answered {type(error).__name__}: {error}"
        raise NetworkError(cause, track=label, stage=STAGE) from error
