"""HTTP answers and transport faults as errors of the family."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.errors import (
    NetworkError,
    RateLimited,
    ServiceError,
    SourceMissing,
    SourceUnreadable,
    StemwrightError,
)
from tasks.net.retries import retry_after_s

if TYPE_CHECKING:
    import httpx


def error_of_status(status: int, reason: str = "", retry_after: str = "") -> StemwrightError:
    """Return the error that an HTTP status of 400 or more stands for."""
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
        fault = ServiceError(f"{answer}.")
        fault.retry_after_s = retry_after_s(retry_after)
        return fault
    remedy = "Open the URL in a browser: it may need a login or a newer link."
    return SourceUnreadable(f"{answer}.", remedy=remedy)


def check_status(response: httpx.Response) -> None:
    """Raise the error that a response's status of 400 or more stands for."""
    if response.status_code >= 400:
        retry_after = response.headers.get("retry-after", "")
        raise error_of_status(response.status_code, response.reason_phrase, retry_after)


@contextmanager
def httpx_errors() -> Iterator[None]:
    """Raise httpx's exceptions as errors of the family."""
    import httpx

    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise SourceMissing(f"this isn't a URL that can be fetched: {error}") from error
    except httpx.TooManyRedirects as error:
        raise SourceMissing("the server redirects in a circle.") from error
    except httpx.ReadTimeout as error:
        raise NetworkError("the download stalled: the server sent nothing for a while.") from error
    except httpx.TimeoutException as error:
        raise NetworkError("the server didn't answer in time.") from error
    except httpx.HTTPError as error:
        raise error_of_connection(error) from error


def error_of_connection(error: BaseException) -> StemwrightError:
    """Return the error of a connection that failed, stalled or broke off."""
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
