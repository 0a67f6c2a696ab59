"""One family of errors. Each names the stage, the track, the cause and what to do about it.

StemwrightError
├── InputError               what the input is; trying again can't help
│   ├── CatalogError             a row or a file of a catalog can't be read
│   ├── SourceMissing            no such file, object or page (404)
│   ├── SourceUnreadable         it exists but may not be read (permissions, 401, 403)
│   ├── SourceRefused            the policy forbids it (size, duration, scheme, private address)
│   ├── NotAudio                 bytes that hold no audio stream
│   ├── EmptyAudio               an audio stream with nothing, or next to nothing, in it
│   └── CorruptAudio             damaged, truncated, or not-a-number samples
├── SettingsError            what the user set; trying again can't help
│   ├── UnknownModel
│   ├── LibraryMissing           an extra that isn't installed, or can't be imported here
│   ├── WeightsMissing
│   ├── WeightsRefused           wrong hash, or a pickle that nobody vouched for
│   ├── KeyRejected
│   └── BudgetSpent              a limit of the settings, or an account's credit
├── TransientError             can pass by itself: worth trying again
│   ├── NetworkError
│   ├── RateLimited
│   ├── ServiceError             a service's 5xx or its own "failed"
│   └── OutOfMemory
├── DeadlineMissed           the track's time ran out
├── DiskFull                 nothing can be written until somebody makes room
├── StorageError             a disk or file system that doesn't do what it should
├── ProtocolError           the other side answered something it must not
├── SubmitUnclear            a submit broke off: a service may have taken it, and be paid for it
├── IncompleteSeparation     stems are missing or broken after the one regeneration
└── Interrupted              the run was asked to stop
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar

from tasks.paths import shown, text_of


class StemwrightError(Exception):
    """A failure of one track (or of the settings) in words a user can act on.

    Args:
        cause: What was wrong, as a sentence without the track's name.
        track: The track as the user knows it (label or source); empty if it concerns none.
        stage: catalog, ingest, normalize, separate, validate, score or record; empty for settings.
        remedy: What to do about it.

    Attributes:
        submitted: Whether a service may have a job of it; False where it certainly has none.
        cost_usd: What a service charged for a job that came to nothing, where that is known.
        tried_enough: It can pass, but was tried as often as this run may try it.
    """

    retryable: ClassVar[bool] = False
    default_remedy: ClassVar[str] = ""
    submitted: bool = True
    cost_usd: float = 0.0
    tried_enough: bool = False

    def __init__(self, cause: str, *, track: str = "", stage: str = "", remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.track = track
        self.stage = stage
        self.remedy = remedy or self.default_remedy

    def __str__(self) -> str:
        where = f"{self.track}: " if self.track else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{where}{self.cause}{remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries inside Prefect results; keyword-only fields need help.
        return (_rebuild, (type(self), dict(self.__dict__)))

    def with_context(self, *, track: str = "", stage: str = "") -> StemwrightError:
        """Fill in the track and the stage where the raiser didn't know them; returns itself."""
        self.track = self.track or track
        self.stage = self.stage or stage
        return self


def _rebuild(kind: type[StemwrightError], fields: dict[str, object]) -> StemwrightError:
    error = kind(str(fields["cause"]))
    error.__dict__.update(fields)
    return error


class InputError(StemwrightError):
    """What the input is. The same input fails the same way again."""


class CatalogError(InputError):
    """A catalog, or a row of it, can't be read."""


class SourceMissing(InputError):
    """No such file, object or page."""

    default_remedy = "Check the path or URL."


class SourceUnreadable(InputError):
    """It exists, but may not be read."""

    default_remedy = "Check its permissions."


class SourceRefused(InputError):
    """The ingest policy forbids it: too large, too long, a forbidden scheme or address."""


class NotAudio(InputError):
    """The bytes hold no audio stream."""

    default_remedy = "Give a file that holds audio."


class EmptyAudio(InputError):
    """An audio stream with nothing, or next to nothing, in it."""


class CorruptAudio(InputError):
    """Damaged or truncated audio, or samples that are not finite numbers."""

    default_remedy = "Fetch or export the file again."


class SettingsError(StemwrightError):
    """What the user set. Exit code 2 when it is found before anything starts."""


class UnknownModel(SettingsError):
    """No model of that name."""

    default_remedy = "`stemwright models list` shows the names."


class LibraryMissing(SettingsError):
    """A library that an extra of the package brings isn't installed, or can't be imported here."""


class WeightsMissing(SettingsError):
    """The model is known, its weights are not on this machine."""


class WeightsRefused(SettingsError):
    """Weights with the wrong hash, or a pickle that nobody vouched for."""


class KeyRejected(SettingsError):
    """A service rejected the API key."""

    default_remedy = "Set engine.api_key (or STEMWRIGHT_ENGINE__API_KEY) to a valid key."


class BudgetSpent(SettingsError):
    """A limit that the settings put on a service is reached, or its account has no credit."""

    default_remedy = "Wait for the next period, raise the limit, or let this machine take over."


class TransientError(StemwrightError):
    """Can pass by itself: worth trying again. `retry_after_s` is the wait that was asked for."""

    retryable = True
    retry_after_s: float | None = None
    default_remedy = "It may pass: run the same command again."


class NetworkError(TransientError):
    """No connection, a reset, a stall, an answer cut short."""


class RateLimited(TransientError):
    """Asked too often. `retry_after_s` is what the service asked for, if it did."""

    def __init__(self, cause: str, *, retry_after_s: float | None = None, **names: str) -> None:
        super().__init__(cause, **names)
        self.retry_after_s = retry_after_s


class ServiceError(TransientError):
    """A service's own fault: a 5xx, or a job that it says failed."""


class OutOfMemory(TransientError):
    """The device or the host ran out of memory."""


class DeadlineMissed(StemwrightError):
    """The track's time ran out; nothing of it was kept."""

    default_remedy = "Raise --deadline, or use a faster engine."


class DiskFull(StemwrightError):
    """Nothing more can be written."""

    default_remedy = "Make room and run the same command again: it goes on where it stopped."


class StorageError(StemwrightError):
    """A disk or a file system doesn't do what it should: an I/O error, a file for a folder."""

    default_remedy = "Look at the disk and the path, then run the same command again."


class ProtocolError(StemwrightError):
    """The other side answered something that it must not."""


class SubmitUnclear(StemwrightError):
    """A submit broke off where a repeated one could be paid for twice."""

    default_remedy = (
        "Look at the service's own list of jobs; the same command submits the track anew."
    )


class IncompleteSeparation(StemwrightError):
    """Stems are missing or broken after the one regeneration."""

    def __init__(self, cause: str, *, missing: tuple[str, ...] = (), **names: str) -> None:
        super().__init__(cause, **names)
        self.missing = missing


class Interrupted(StemwrightError):
    """The run was asked to stop; the same command goes on where it stopped."""


def from_os_error(error: OSError, *, track: str = "", stage: str = "") -> StemwrightError:
    """Translate an operating-system error into the family, so that it carries a remedy."""
    where = shown(text_of(os.fsdecode(error.filename))) if error.filename else track
    if isinstance(error, FileNotFoundError):
        return SourceMissing(f"there is no file at {where}.", track=track, stage=stage)
    if isinstance(error, PermissionError):
        return SourceUnreadable(f"{where} may not be read or written.", track=track, stage=stage)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull("the disk is full.", track=track, stage=stage)
    if isinstance(error, (ConnectionError, TimeoutError)):
        return NetworkError(f"{type(error).__name__}: {error}", track=track, stage=stage)
    what = error.strerror or type(error).__name__
    return StorageError(f"{where or 'the disk'}: {what}.", track=track, stage=stage)
