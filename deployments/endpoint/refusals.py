"""What the endpoint answers when it doesn't do what was asked."""

from __future__ import annotations

import errno
import sqlite3

from starlette.exceptions import HTTPException


class Refused(HTTPException):
    """A status other than 2xx, and the sentence that goes with it.

    Args:
        status: As in HTTP.
        detail: For the caller's eyes: what was wrong and what to do, and nothing of this machine.
        headers: Such as `Retry_After`.
    """

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(status, detail, named)


def unknown_job() -> Refused:
    """Of a job that never was, was forgotten, or is another key's: nobody can tell which."""
    return Refused(404, "There is no such job, or it has expired. Submit the audio again.")


def unwritable(error: OSError | sqlite3.Error) -> Refused:
    """An upload that this machine couldn't keep."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    name = getattr(error, "sqlite_errorname", "")
    if getattr(error, "errno", None) in full or name == "SQLITE_FULL":
        return Refused(507, "The service's disk is full. Try again later.", Retry_After="300")
    return Refused(500, "The service couldn't store the upload. Try again later.")
