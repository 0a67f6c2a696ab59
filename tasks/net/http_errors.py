"""HTTP answers and TLS faults as errors of the family."""

from __future__ import annotations

import ssl
import time
from email.utils import parsedate_to_datetime

from tasks.errors import (
    NetworkError,
    RateLimited,
    ServiceError,
    SourceMissing,
    SourceUnreadable,
    StemwrightError,
)


def error_of_status(status: int, reason: str = "", retry_after: str = "") -> StemwrightError:
    """The error that an HTTP status of 400 or more stands for."""
    answer = f"the server answered {status} {reason}".rstrip()
    if status in (404, 410):
        return SourceMissing(f"{answer}: there is nothing at this URL.")
    if status == 429:
        seconds = retry_after_s(retry_after)
        asked = "" if seconds is None else f" and asks to wait {seconds:.0f} s"
        return RateLimited(f"{answer}{asked}.", retry_after_s=seconds)
    if status in (408, 425):
        return NetworkError(f"{answer}.")
    if status >= 500:
        return ServiceError(f"{answer}.")
    remedy = "Open the URL in a browser: it may need a login or a newer link."
    return SourceUnreadable(f"{answer}.", remedy=remedy)


def retry_after_s(header: str) -> float | None:
    """Seconds of a `Retry-After` header, which holds a number or a date."""
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def error_of_connection(error: BaseException) -> StemwrightError:
    """The error of a connection that failed, stalled or broke off."""
    if _caused_by(error, ssl.SSLCertVerificationError):
        return SourceUnreadable(
            "the server's TLS certificate can't be trusted.",
            remedy="Check the host name, the clock, and the certificates of this machine.",
        )
    said = str(error).strip().rstrip(".") or type(error).__name__
    return NetworkError(f"the connection failed: {said[:300]}.")


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, kind):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
