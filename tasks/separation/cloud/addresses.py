"""Which addresses a service's URLs may lead to, checked on the address that is connected to.

So neither a redirect nor a name that changes its address between two look-ups gets round it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from tasks.errors import ProtocolError, SettingsError
from tasks.separation.cloud.timeouts import Bounds

Origin = tuple[str, str, int]
Kind = Literal["public", "private", "loopback", "link-local", "reserved"]
_QUOTED = 120
_KEEPALIVE_S = 60.0
# The pool looks at each idle connection at each request.
_IDLE = 8


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


def kind_of(address: str) -> Kind:
    """What sort of network an IP address belongs to; an IPv4 one inside IPv6 counts as itself."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(parsed, "ipv4_mapped", None) or getattr(parsed, "sixtofour", None) or parsed
    if inner.is_loopback:
        return "loopback"
    if inner.is_link_local:
        return "link-local"
    if inner.is_multicast or inner.is_reserved or inner.is_unspecified:
        return "reserved"
    # Site-local IPv6 (RFC 3879) is deprecated, and still routed inside some networks.
    local = isinstance(inner, ipaddress.IPv6Address) and inner.is_site_local
    return "public" if inner.is_global and parsed.is_global and not local else "private"


def is_on_loopback(base_url: str) -> bool:
    """Whether a service is on this machine's loopback, where an endpoint may need no key.

    Names but `localhost` aren't looked up.
    """
    try:
        host = origin(base_url)[1]
        return host == "localhost" or kind_of(host) == "loopback"
    except (ProtocolError, ValueError):
        return False


class Guard:
    """What one service's URLs may lead to.

    The service's own host may be anywhere: the user named it. Other hosts have to be public, or on
    the same kind of network as the service: a service on loopback may name loopback addresses, one
    on a private network private ones.
    """

    def __init__(self, base_url: str) -> None:
        _, host, self._port = origin(base_url)
        self._host = host.lower()
        self._kinds: frozenset[Kind] | None = None

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses to connect to for a host, all of them allowed.

        Raises:
            AddressRefused: One leads to a network that it may not.
            OSError: The name can't be resolved.
        """
        found = await _resolve(host, port)
        if host.lower() != self._host:
            for address in found:
                await self._check(host, address)
        return found

    async def check_literal(self, host: str) -> None:
        """Look at a host that is an address itself; names are somebody else's to resolve.

        Raises:
            AddressRefused: It leads to a network that it may not.
        """
        with suppress(ValueError):
            ipaddress.ip_address(host)
            if host.lower() != self._host:
                await self._check(host, host)

    async def _check(self, host: str, address: str) -> None:
        kind = kind_of(address)
        if kind != "public" and kind not in await self._own_kinds():
            raise AddressRefused(
                f"the service gave a URL that leads to the {kind} address {address} ({host}).",
                stage="separate",
            )

    async def _own_kinds(self) -> frozenset[Kind]:
        if self._kinds is None:
            found = await _resolve(self._host, self._port)
            self._kinds = frozenset(kind_of(address) for address in found)
        return self._kinds


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport, HTTP/2 where it is offered, connecting where the guard allows.

    Through the environment's proxies, where there are any: they resolve names themselves, so that
    only addresses that stand in a URL can be checked.
    """

    def __init__(self, guard: Guard, bounds: Bounds) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context)
        self._guard = guard
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=bounds.connections,
            max_keepalive_connections=_IDLE,
            keepalive_expiry=_KEEPALIVE_S,
            http1=True,
            http2=True,
            network_backend=_GuardedBackend(guard, bounds),
        )
        self._proxied = {
            scheme: httpx.AsyncHTTPTransport(verify=context, proxy=url, http2=True)
            for scheme, url in getproxies().items()
            if scheme in ("http", "https")
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxied = self._proxied.get(request.url.scheme)
        if proxied is None or proxy_bypass(request.url.host):
            return await super().handle_async_request(request)
        await self._guard.check_literal(request.url.host)
        return await proxied.handle_async_request(request)

    async def aclose(self) -> None:
        for proxied in self._proxied.values():
            await proxied.aclose()
        await super().aclose()


class _GuardedBackend(httpcore.AnyIOBackend):
    def __init__(self, guard: Guard, bounds: Bounds) -> None:
        self._guard = guard
        self._connect_s = bounds.connect_s

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        limit_s = timeout or self._connect_s
        try:
            async with asyncio.timeout(limit_s):
                addresses = await self._guard.addresses(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"the name {host} wasn't resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name can't be resolved ({error})") from error
        *others, last = addresses
        for address in others:
            # A host of two families is often deaf on one of them.
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await super().connect_tcp(
                    address, port, limit_s / len(addresses), local_address, socket_options
                )
        return await super().connect_tcp(last, port, limit_s, local_address, socket_options)
