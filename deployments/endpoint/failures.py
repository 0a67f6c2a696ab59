"""Why a job failed, in words for its owner: what was wrong and what to do, nothing of this machine.

Errors of this machine may name folders; only what is known to hold none is passed on.
"""

from __future__ import annotations

from tasks.errors import (
    CorruptAudio,
    DeadlineMissed,
    DiskFull,
    EmptyAudio,
    NotAudio,
    OutOfMemory,
    SourceRefused,
    StemwrightError,
)

_ABOUT_THE_AUDIO = (NotAudio, EmptyAudio, CorruptAudio, SourceRefused)
DIED_TOO_OFTEN = (
    "The service ended {times} times while it separated this. The audio may be at fault: send it "
    "in another format, or in shorter parts."
)


def error_message(error: Exception, job_id: str) -> str:
    """What the job's answer says."""
    if isinstance(error, _ABOUT_THE_AUDIO):
        return in_words(error)
    if isinstance(error, DeadlineMissed):
        return f"{error.cause} Send it in shorter parts, or when the service has less to do."
    if isinstance(error, OutOfMemory):
        return "The service ran out of memory. Send it in shorter parts, or try again later."
    if isinstance(error, DiskFull):
        return "The service's disk is full. Try again later."
    return f"The service failed at this job. Its log says why, under the job {job_id}."


def in_words(error: StemwrightError) -> str:
    """Cause and remedy as sentences, for errors that are known to name nothing of this machine."""
    words = f"{error.cause[:1].upper()}{error.cause[1:]}"
    return f"{words} {error.remedy}".strip()
