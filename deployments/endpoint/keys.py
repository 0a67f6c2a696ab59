"""Who may use the endpoint: bearer keys, of which only hashes are kept."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.errors import SettingsError

log = logging.getLogger(__name__)

VARIABLE = "STEMWRIGHT_ENDPOINT_KEYS"
SHORTEST = 8
ANYBODY = "anybody"


class Keys:
    """Keys from the environment and from a file that is read again whenever it changes.

    Args:
        given: The keys themselves.
        file: A key a line; empty lines and those that begin with # don't count.

    Raises:
        SettingsError: A key that is too short or fits no header, or a file without any.
    """

    def __init__(self, given: Iterable[str] = (), file: Path | None = None) -> None:
        self._given = frozenset(_digest(_checked(key, VARIABLE)) for key in given)
        self._file = file
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._from_file: frozenset[str] = frozenset()
        if file is not None:
            self._seen = _stamp(file) if file.is_file() else None
            self._from_file = _read(file)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], file: Path | None = None) -> Keys:
        """The keys of `STEMWRIGHT_ENDPOINT_KEYS`, joined by commas, and those of a file."""
        listed = environ.get(VARIABLE, "").split(",")
        return cls((key.strip() for key in listed if key.strip()), file)

    @property
    def required(self) -> bool:
        """Whether a request needs a key. A file that has lost its last key lets nobody in."""
        return bool(self._given) or self._file is not None

    def __len__(self) -> int:
        return len(self._digests())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)})"

    def owner(self, authorization: str | None) -> str | None:
        """The name under which the sender's jobs are kept, or None for a sender without a key.

        Takes equally long whichever key it is, and whether or not it is one.
        """
        if not self.required:
            return ANYBODY
        scheme, _, key = (authorization or "").partition(" ")
        presented = _digest(key.strip()) if scheme.lower() == "bearer" else _digest("")
        found = None
        for known in self._digests():
            if hmac.compare_digest(known, presented):
                found = known
        return found

    def _digests(self) -> frozenset[str]:
        with self._lock:
            if self._file is not None:
                self._refresh(self._file)
            return self._given | self._from_file

    def _refresh(self, file: Path) -> None:
        try:
            stamp = _stamp(file)
            if stamp == self._seen:
                return
            self._seen = stamp
            self._from_file = _read(file)
        except (SettingsError, OSError) as error:
            # Half a file is no reason to lock everybody out; an emptied one is.
            if isinstance(error, _NoKeys):
                self._from_file = frozenset()
            log.warning("the keys file was not taken over", extra={"cause": type(error).__name__})
            return
        log.info("the keys file was read again", extra={"keys": len(self._from_file)})


class _NoKeys(SettingsError):
    """A keys file without a key."""


def _read(file: Path) -> frozenset[str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the keys file {file} can't be read.") from error
    keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not keys:
        raise _NoKeys(f"the keys file {file} holds no key.", remedy="Write one key a line.")
    return frozenset(_digest(_checked(key, str(file))) for key in keys)


def _stamp(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _checked(key: str, origin: str) -> str:
    if len(key) < SHORTEST or not all("!" <= char <= "~" for char in key):
        raise SettingsError(
            f"a key in {origin} is shorter than {SHORTEST} characters, or holds one that no "
            "header takes.",
            remedy="Make keys with `openssl rand -hex 24`.",
        )
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
