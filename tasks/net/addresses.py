"""Which addresses may be connected to, checked on the address that is connected to.

So neither a redirect nor a name that changes its address between two look-ups gets round it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from tasks.contracts import IngestPolicy
from tasks.errors import NetworkError, SourceRefused

Kind = Literal["public", "private", "loopback", "link-local", "reserved"]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_KEEPALIVE_S = 60.0
# The pool looks at each idle connection at each request.
_IDLE = 8


def kind_of(address: str) -> Kind:
    """Return the sort of network an IP address belongs to; IPv4 inside IPv6 counts as itself."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inner = _inside(parsed)
    if inner.is_loopback:
        return "loopback"
    if inner.is_link_local:
        return "link-local"
    if inner.is_multicast or inner.is_reserved or inner.is_unspecified:
        return "reserved"
    # Site-local IPv6 (RFC 3879) is deprecated, and still routed inside some networks.
    local = isinstance(inner, ipaddress.IPv6Address) and inner.is_site_local
    return "public" if inner.is_global and parsed.is_global and not local else "private"


def _inside(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


class Guard(ABC):
    """Says which addresses a host may have."""

    @abstractmethod
    def check(self, host: str, address: str) -> None:
        """Raise if the host may not lead to this address."""

    def addresses(self, host: str, port: int) -> list[str]:
        """Look up the addresses of a host, all of them allowed.

        Raises:
            StemwrightError: One of them isn't; as `check`.
            OSError, UnicodeError: The name can't be resolved.
        """
        found = resolve(host, port)
        for address in found:
            self.check(host, address)
        return found

    def check_literal(self, host: str) -> None:
        """Check a host that is an address itself; names are somebody else's to resolve."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        self.check(host, host)


class PublicOnly(Guard):
    """Public addresses, and those that a policy lists: strangers choose the URLs."""

    def __init__(self, policy: IngestPolicy) -> None:
        self._hosts = policy.allow_hosts
        self._networks = [ipaddress.ip_network(network) for network in policy.allow_networks]

    def check(self, host: str, address: str) -> None:
        kind = kind_of(address)
        if kind != "public" and not self._is_listed(host, address):
            where = address if host == address else f"{address} ({host})"
            raise SourceRefused(
                f"it leads to the {kind} address {where}; only public ones are fetched from.",
                remedy="If it is meant, name it in ingest.allow_hosts or ingest.allow_networks; on "
                "the command line --allow-private allows all.",
            )

    def _is_listed(self, host: str, address: str) -> bool:
        name = host.rstrip(".").lower()
        if any(
            name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
            for pattern in self._hosts
        ):
            return True
        parsed = ipaddress.ip_address(address.partition("%")[0])
        return any(parsed in network or _inside(parsed) in network for network in self._networks)

    def addresses(self, host: str, port: int) -> list[str]:
        try:
            return super().addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise NetworkError(f"the host {host} can't be found: {error}.") from error


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, each once."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def connect(
    address: tuple[str, int],
    timeout: float | None = None,
    source_address: tuple[str, int] | None = None,
    *,
    guard: Guard,
) -> socket.socket:
    """Connect where the guard allows, as `socket.create_connection` does anywhere."""
    host, port = address
    *others, last = guard.addresses(host, port)
    for each in others:
        # A host of two families is often deaf on one of them.
        with suppress(OSError):
            return socket.create_connection((each, port), timeout, source_address)
    return socket.create_connection((last, port), timeout, source_address)


def client(policy: IngestPolicy, **options: Any) -> httpx.Client:
    """Return httpx's client, redirects followed, that connects where the policy allows.

    Through no proxy, unless all is allowed: a proxy looks names up itself.
    """
    transport = None if policy.allow_private_addresses else _PublicTransport(PublicOnly(policy))
    return httpx.Client(follow_redirects=True, transport=transport, **options)


class _PublicTransport(httpx.HTTPTransport):
    def __init__(self, guard: Guard) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(), network_backend=_PublicBackend(guard)
        )


class _PublicBackend(httpcore.SyncBackend):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        *others, last = self._guard.addresses(host, port)
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
        return super().connect_tcp(last, port, timeout, local_address, socket_options)


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's asynchronous transport, HTTP/2 where offered, connecting where the guard allows.

    Through the environment's proxies, where there are any: they resolve names themselves, so that
    only addresses that stand in a URL can be checked.
    """

    def __init__(self, guard: Guard, *, connections: int, connect_s: float) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context)
        self._guard = guard
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=connections,
            max_keepalive_connections=_IDLE,
            keepalive_expiry=_KEEPALIVE_S,
            http1=True,
            http2=True,
            network_backend=_GuardedBackend(guard, connect_s),
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
        await asyncio.to_thread(self._guard.check_literal, request.url.host)
        return await proxied.handle_async_request(request)

    async def aclose(self) -> None:
        for proxied in self._proxied.values():
            await proxied.aclose()
        await super().aclose()


class _GuardedBackend(httpcore.AnyIOBackend):
    def __init__(self, guard: Guard, connect_s: float) -> None:
        self._guard = guard
        self._connect_s = connect_s

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
                addresses = await asyncio.to_thread(self._guard.addresses, host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"the name {host} wasn't resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name can't be resolved ({error})") from error
        *others, last = addresses
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await super().connect_tcp(
                    address, port, limit_s / len(addresses), local_address, socket_options
                )
        return await super().connect_tcp(last, port, limit_s, local_address, socket_options)
