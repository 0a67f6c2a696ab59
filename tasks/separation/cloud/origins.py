"""A service's own address, and where the URLs that it gives may lead."""

from __future__ import annotations

from functools import cached_property
from urllib.parse import urlsplit

import httpx

from tasks.errors import ProtocolError, SettingsError
from tasks.net.addresses import Guard, Kind, kind_of, resolve

Origin = tuple[str, str, int]
_QUOTED = 120


class AddressRefused(ProtocolError):
    """A service's URL leads where it may not."""

    default_remedy = (
        "A service may name public addresses, and those of its own kind of network. If this one "
        "is meant, have it serve its stems from its own host."
    )


def origin(url: str) -> Origin:
    """Scheme, host and port: what decides who gets the key.

    Raises:
        ProtocolError: Not an http(s) URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ProtocolError(f"{url[:_QUOTED]!r} is no URL.", stage="separate") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ProtocolError(
            f"the service gave the address {url[:_QUOTED]!r}; only http(s) is fetched.",
            stage="separate",
        )
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


def checked_base_url(base_url: str) -> str:
    """A service's address as settings give it, without a slash at its end.

    Raises:
        SettingsError: Not an http(s) address.
    """
    try:
        origin(base_url)
        httpx.URL(base_url)
    except (ProtocolError, httpx.InvalidURL) as error:
        raise SettingsError(
            f"engine.base_url is {base_url!r}, which is no http(s) address."
        ) from error
    return base_url.rstrip("/")


def is_on_loopback(base_url: str) -> bool:
    """Whether a service is on this machine's loopback, where an endpoint may need no key.

    Names but `localhost` aren't looked up.
    """
    try:
        host = origin(base_url)[1]
        return host == "localhost" or kind_of(host) == "loopback"
    except (ProtocolError, ValueError):
        return False


class ServiceGuard(Guard):
    """What one service's URLs may lead to.

    The service's own host may be anywhere: the user named it. Other hosts have to be public, or on
    the same kind of network as the service: a service on loopback may name loopback addresses, one
    on a private network private ones.
    """

    def __init__(self, base_url: str) -> None:
        _, host, self._port = origin(base_url)
        self._host = host.lower()

    def check(self, host: str, address: str) -> None:
        if host.lower() == self._host:
            return
        kind = kind_of(address)
        if kind != "public" and kind not in self._own_kinds:
            raise AddressRefused(
                f"the service gave a URL that leads to the {kind} address {address} ({host}).",
                stage="separate",
            )

    @cached_property
    def _own_kinds(self) -> frozenset[Kind]:
        return frozenset(kind_of(address) for address in resolve(self._host, self._port))
