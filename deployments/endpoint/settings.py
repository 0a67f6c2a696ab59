"""What an endpoint is told when it starts."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from tasks.contracts import Value
from tasks.errors import SettingsError

VERSION_PREFIX = "/v1"


class EndpointSettings(Value):
    """Where to listen and what to hold; `deadline_s` of 0 goes by a track's length."""

    data: Path
    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65_535)
    public_url: str = ""
    queue: int = Field(default=64, ge=1)
    max_upload_bytes: int = Field(default=2 * 1024**3, ge=1)
    stall_timeout_s: float = Field(default=30.0, gt=0)
    max_duration_s: float = Field(default=4 * 3600.0, gt=0)
    deadline_s: float = Field(default=0.0, ge=0)
    keep_s: float = Field(default=24 * 3600.0, gt=0)
    grace_s: float = Field(default=60.0, ge=0)


def check_public_url(url: str) -> str:
    """The address that others reach the endpoint at, without a slash at its end.

    Raises:
        SettingsError: It is no http(s) address, or holds more than one.
    """
    parts = urlsplit(url.strip())
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise SettingsError(f"--public-url is {url!r}, which is no http(s) address.")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise SettingsError("--public-url holds more than scheme, host, port and path.")
    return url.strip().rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can connect to a socket that is bound to `host`.

    Raises:
        SettingsError: The name has no address.
    """
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SettingsError(f"--host {host} has no address here.") from error
    return all(ipaddress.ip_address(str(each[4][0])).is_loopback for each in found)
