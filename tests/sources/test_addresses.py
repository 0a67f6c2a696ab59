"""Nothing is fetched from an address that isn't public, whoever names it and however, unless the
settings list it; held at the moment of connecting."""

from __future__ import annotations

import gc
import socket
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts import Failure, IngestPolicy, TrackRef
from tasks.errors import SourceRefused
from tasks.net.addresses import PublicOnly
from tasks.sources import ingest, read_catalog
from tests.sources import server
from tests.sources.conftest import QUICK, url_ref
from tests.sources.server import Site

CLOSED = QUICK.model_copy(update={"max_retries": 0, "allow_networks": ()})
# The one that the site is asked under; 127.0.0.2 is as near, and isn't listed.
ONE = CLOSED.model_copy(update={"allow_networks": ("127.0.0.1/32",)})

WRITTEN = (
    "127.0.0.1",
    "localhost",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "2130706433",
    "0x7f000001",
    "017700000001",
    "127.1",
    "0.0.0.0",
    "169.254.169.254",
    "[fe80::1]",
    "10.0.0.1",
    "[fd00::1]",
)


def port_of(site: Site) -> str:
    return site.url.rsplit(":", 1)[1]


def inside(url: str) -> str:
    return url.replace("127.0.0.1", "127.0.0.2")


@pytest.mark.parametrize("path", ["/a.flac", "/page"])
@pytest.mark.parametrize("host", WRITTEN)
def test_by_default_no_private_address_is_asked_however_it_is_written(
    site: Site, scratch: Path, flac: bytes, host: str, path: str
) -> None:
    site.on(path, server.file(flac))
    with pytest.raises(SourceRefused, match=r"address|allow_networks"):
        ingest(url_ref(f"http://{host}:{port_of(site)}{path}"), scratch, CLOSED)
    assert site.requests == []


@pytest.mark.parametrize("name", ["/list.csv", "/page", "/feed.xml"])
def test_nor_is_it_to_find_out_what_is_there(site: Site, name: str) -> None:
    site.on(name, server.page("<html></html>"))
    for item in read_catalog([site.url + name], policy=CLOSED):
        assert isinstance(item, TrackRef) or item.error_type == "SourceRefused"
    assert site.requests == []


def test_a_store_that_may_lead_inside_is_not_listed() -> None:
    for url in ("sftp://10.0.0.1/music/", "ftp://10.0.0.1/list.csv"):
        (item,) = read_catalog([url], policy=CLOSED)
        assert isinstance(item, Failure)
        assert item.error_type == "SourceRefused"


def test_a_redirect_is_held_to_it_too(site: Site, scratch: Path, flac: bytes) -> None:
    secret = inside(site.on("/secret.flac", server.file(flac)))
    url = site.on("/a.flac", server.redirect(secret))
    with pytest.raises(SourceRefused, match=r"127\.0\.0\.2"):
        ingest(url_ref(url), scratch, ONE)
    assert [path for path, _ in site.requests] == ["/a.flac"]


def test_and_the_media_of_a_page(site: Site, scratch: Path, flac: bytes) -> None:
    secret = inside(site.on("/media/secret.flac", server.file(flac)))
    html = f"<html><title>One</title><body><audio src='{secret}'></audio></body></html>"
    url = site.on("/song", server.page(html))
    with pytest.raises(SourceRefused, match=r"127\.0\.0\.2"):
        ingest(url_ref(url), scratch, ONE)
    assert "/media/secret.flac" not in [path for path, _ in site.requests]


# yt-dlp leaves the file open that it was to write the segment to.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_and_the_segments_of_a_stream(site: Site, scratch: Path, flac: bytes) -> None:
    secret = inside(site.on("/secret.ts", server.file(flac)))
    index = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n"
    url = site.on("/live.m3u8", server.file(index.encode(), kind="application/vnd.apple.mpegurl"))
    with pytest.raises(SourceRefused, match=r"127\.0\.0\.2"):
        ingest(url_ref(url), scratch, ONE)
    assert "/secret.ts" not in [path for path, _ in site.requests]
    gc.collect()


def test_a_name_that_changes_between_two_look_ups_gains_nothing(
    site: Site, scratch: Path, flac: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebinding.example":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        # Public when it is checked; where it would lead then, nothing listens that we know of.
        address = "127.0.0.1" if len(asked) > 1 else "192.0.2.1"
        return real(address, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    connected: list[Any] = []

    def connect(address: Any, *args: Any, **kwargs: Any) -> Any:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr("tasks.net.addresses.kind_of", lambda address: "public")
    site.on("/a.flac", server.file(flac))
    for path in ("/a.flac", "/page"):
        asked.clear()
        with pytest.raises(Exception, match=r"connection|download failed"):
            ingest(url_ref(f"http://rebinding.example:{port_of(site)}{path}"), scratch, CLOSED)
    assert set(connected) == {"192.0.2.1"}
    assert site.requests == []


@pytest.mark.parametrize(
    "allowed",
    [
        {"allow_private_addresses": True},
        {"allow_hosts": ("localhost",)},
        {"allow_hosts": ("LOCALHOST.",)},
        {"allow_networks": ("127.0.0.0/8", "::1/128")},
    ],
)
@pytest.mark.parametrize("path", ["/a.flac", "/page"])
def test_what_the_settings_list_is_fetched(
    site: Site, scratch: Path, flac: bytes, path: str, allowed: dict[str, Any]
) -> None:
    site.on(path, server.file(flac, kind="audio/flac"))
    policy = IngestPolicy(**(CLOSED.model_dump() | allowed))
    url = f"http://localhost:{port_of(site)}{path}"
    assert ingest(url_ref(url), scratch, policy).bytes == len(flac)


def test_a_pattern_is_for_the_hosts_under_a_name() -> None:
    guard = PublicOnly(IngestPolicy(allow_hosts=("*.example.org",)))
    guard.check("nas.example.org", "10.0.0.1")
    for stranger in ("example.org", "badexample.org", "nas.example.org.evil.net"):
        with pytest.raises(SourceRefused):
            guard.check(stranger, "10.0.0.1")


@pytest.mark.parametrize(
    "wrong", [{"allow_networks": ("10.0.0.1/8",)}, {"allow_hosts": ("http://nas/",)}]
)
def test_a_list_that_says_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be a (network|host)"):
        IngestPolicy(**wrong)
