"""Keeps secrets out of the logs, whoever writes them: our code, httpx, Prefect."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterable
from threading import Lock
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

MASK = "********"
_SHORTEST = 4  # masking anything shorter would blot out ordinary words


class Redaction(logging.Filter):
    """Masks the secrets it knows in a record's message, exception, stack and extra fields.

    Lets every record pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._secrets: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self._lock = Lock()

    def add(self, secrets: Iterable[str | SecretStr]) -> None:
        """Mask these too, as they are and as they stand in a URL. Under 4 characters: ignored."""
        plain = {s.get_secret_value() if isinstance(s, SecretStr) else s for s in secrets}
        plain = {secret for secret in plain if len(secret) >= _SHORTEST}
        with self._lock:
            self._secrets |= plain | {quote(secret, safe="") for secret in plain}
            longest_first = sorted(self._secrets, key=len, reverse=True)
            if longest_first:
                self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def mask(self, text: str) -> str:
        """The text without the secrets."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def filter(self, record: logging.LogRecord) -> bool:
        if self._pattern is None:
            return True
        self._mask_message(record)
        self._mask_exception(record)
        for name, value in vars(record).items():
            if isinstance(value, str):
                setattr(record, name, self.mask(value))
        return True

    def _mask_message(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:
            # Arguments that don't fit the message: show both, as logging itself would.
            message = f"{record.msg} {record.args!r}"
        masked = self.mask(message)
        if masked != message:
            record.msg, record.args = masked, ()

    def _mask_exception(self, record: logging.LogRecord) -> None:
        if not record.exc_info or record.exc_info[0] is None:
            return
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        masked = self.mask(text)
        if masked != text:
            # Without `exc_info` no handler can format the exception anew.
            record.exc_info, record.exc_text = None, masked


_redaction = Redaction()
_installed = False


def install_redaction(secrets: Iterable[str | SecretStr]) -> Redaction:
    """Mask these secrets in every log record of this process from now on.

    It works where records are made, so that no logger or handler, present or future, is missed
    (a filter on a logger doesn't see what its children log). May be called again with more.
    """
    global _installed
    _redaction.add(secrets)
    if not _installed:
        make = logging.getLogRecordFactory()

        def make_masked(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = make(*args, **kwargs)
            _redaction.filter(record)
            return record

        logging.setLogRecordFactory(make_masked)
        _installed = True
    return _redaction
