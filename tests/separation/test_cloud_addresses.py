"""Where a service's URLs may lead, checked on the address that is connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import ProtocolError
from tasks.net.addresses import kind_of
from tasks.net.retries import RetryPolicy
from tasks.separation import SeparationApi
from tasks.separation.cloud.downloads import Download
from tasks.separation.cloud.origins import AddressRefused, ServiceGuard
from tests.separation.loopback import KEY, LoopbackService, as_json, serve

HASTY = RetryPolicy(max_retries=3, max_backoff_seconds=0.004)
Names = dict[str, list[str]]


@pytest.fixture
def service() -> Iterator[LoopbackService]:
    with serve() as running:
        yield running


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """A table of names in place of the resolver; each look-up takes the next address."""
    table: Names = {}
    real: Callable[..., list[Any]] = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **named: Any) -> list[Any]:
        found = table.get(str(host).lower())
        if not found:
            return real(host, port, *args, **named)
        address = found.pop(0) if len(found) > 1 else found[0]
        return real(address, port, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", "public"),
        ("2606:4700::1111", "public"),
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("192.168.0.1", "private"),
        ("172.16.0.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("fec0::1", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("2002:0a00:0001::", "private"),
        ("64:ff9b::a00:1", "private"),
        ("64:ff9b::808:808", "public"),
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("0.0.0.0", "reserved"),
        ("224.0.0.1", "reserved"),
        ("::", "reserved"),
    ],
)
def test_kinds_of_addresses(address: str, kind: str) -> None:
    assert kind_of(address) == kind


@pytest.mark.parametrize(
    ("home", "other", "allowed"),
    [
        ("8.8.8.8", "9.9.9.9", True),
        ("8.8.8.8", "127.0.0.1", False),
        ("8.8.8.8", "10.0.0.1", False),
        ("8.8.8.8", "169.254.169.254", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "8.8.8.8", True),
        ("127.0.0.1", "10.0.0.1", False),
        ("127.0.0.1", "169.254.169.254", False),
        ("10.0.0.1", "192.168.0.7", True),
        ("10.0.0.1", "127.0.0.1", False),
    ],
)
def test_a_service_names_public_addresses_or_its_own_kind(
    names: Names, home: str, other: str, allowed: bool
) -> None:
    names.update({"stems.test": [home], "cdn.test": [other]})

    guard = ServiceGuard("https://stems.test/v1")
    assert guard.addresses("STEMS.test", 443) == [home]
    if allowed:
        assert guard.addresses("cdn.test", 443) == [other]
    else:
        with pytest.raises(AddressRefused, match=rf"{other} \(cdn\.test\)"):
            guard.addresses("cdn.test", 443)


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/x.flac",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:192.168.0.1]/x.flac",
        "http://0.0.0.0/x.flac",
        "http://3232235521/x.flac",  # 192.168.0.1, as some resolvers read it
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
    ],
)
def test_a_redirect_is_looked_at_like_any_url(
    service: LoopbackService, tmp_path: Path, target: str
) -> None:
    service.planned["GET stems"] = [(302, {"location": target}, b"")]
    with pytest.raises(ProtocolError):
        asyncio.run(fetch(service.base_url, f"{service.base_url}/stems/a/b.flac", tmp_path))
    assert service.count("GET stems") == 1
    assert not list(tmp_path.iterdir())


def test_a_name_that_changes_its_address_is_caught(
    service: LoopbackService, names: Names, tmp_path: Path
) -> None:
    port = service.base_url.split(":")[2].split("/")[0]
    url = f"http://cdn.test:{port}/v1/stems/a/b.flac"
    # What is looked at is what is connected to: one look-up a connection.
    names["cdn.test"] = ["127.0.0.1", "192.168.0.1"]
    service.planned["GET stems"] = [as_json(404, {})]
    with pytest.raises(ProtocolError, match="answers 404"):
        asyncio.run(fetch(service.base_url, url, tmp_path))
    assert service.requests[0].headers["host"] == f"cdn.test:{port}"
    assert service.requests[0].headers["authorization"] is None
    with pytest.raises(AddressRefused, match="private address"):
        asyncio.run(fetch(service.base_url, url, tmp_path))
    assert len(service.requests) == 1


def test_a_host_of_which_one_address_is_deaf_is_reached(
    service: LoopbackService, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., list[Any]] = socket.getaddrinfo

    def both(host: Any, port: Any, *args: Any, **named: Any) -> list[Any]:
        if host != "stems.test":
            return real(host, port, *args, **named)
        return [*real("127.0.0.9", port, *args, **named), *real("127.0.0.1", port, *args, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    service.base_url = service.base_url.replace("127.0.0.1", "stems.test")
    service.planned["GET jobs"] = [as_json(200, {"job_id": "x", "status": "queued"})]

    async def ask() -> str:
        async with SeparationApi(service.base_url, KEY) as api:
            return (await api.ask("x")).status

    assert asyncio.run(ask()) == "queued"


def test_a_proxy_of_the_environment_is_used_and_sent_to_no_private_address(
    service: LoopbackService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("http_proxy", service.base_url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", "")
    seen = as_json(200, {"job_id": "x", "status": "queued"})
    service.planned = {"GET stems.test": [seen]}

    async def ask() -> None:
        async with SeparationApi("http://stems.test/v1", KEY, policy=HASTY) as api:
            await api.ask("x")

    # The request line holds the whole URL, which is how a proxy is asked.
    asyncio.run(ask())
    assert service.requests[0].path == "http://stems.test/v1/jobs/x"
    with pytest.raises(AddressRefused):
        asyncio.run(fetch("http://127.0.0.1:9/v1", "http://10.0.0.1/x.flac", tmp_path))
    assert len(service.requests) == 1


async def fetch(base_url: str, url: str, folder: Path) -> None:
    async with SeparationApi(base_url, KEY, policy=HASTY) as api:
        await api.download(url, folder / "x.flac", Download())
