"""What yt-dlp's requests may do: read so much for so long, and connect to public addresses only."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Any

from yt_dlp.networking._urllib import UrllibRH

from tasks.contracts import IngestPolicy
from tasks.errors import SourceRefused
from tasks.net.addresses import connect
from tasks.sources.limits import Deadline

_LARGEST_PAGE_BYTES = 64 * 1024**2
_BLOCK_BYTES = 64 * 1024


def bounded(response: Any, deadline: Deadline, policy: IngestPolicy) -> Any:
    """An answer whose body can be read for the download's time, and as a page to 64 MiB."""
    read = response.read

    def read_bounded(amount: int | None = None) -> bytes:
        if amount is not None and amount >= 0:
            deadline.check()
            return bytes(read(amount))
        body = bytearray()
        while True:
            deadline.check()
            block = read(_BLOCK_BYTES)
            if not block:
                return bytes(body)
            body += block
            if len(body) > min(_LARGEST_PAGE_BYTES, policy.max_bytes):
                raise SourceRefused(
                    f"its page goes on after {len(body):,} bytes.", remedy="Check the URL."
                )

    response.read = read_bounded
    return response


def public_director() -> list[type[Any]]:
    """The request handlers to use where private addresses are refused."""
    return [_PublicRH]


class _PublicRH(UrllibRH):  # type: ignore[misc]  # yt-dlp has no types
    """yt-dlp's urllib handler, connecting to public addresses only, redirects included."""

    # yt-dlp finds preferences by this name, which it derives from the class otherwise.
    RH_KEY = "Urllib"

    def _create_instance(self, *args: Any, **options: Any) -> Any:
        opener = super()._create_instance(*args, **options)
        context = self._make_sslcontext(legacy_ssl_support=options.get("legacy_ssl_support"))
        opener.add_handler(_PublicOpen(context))
        return opener


class _PublicOpen(urllib.request.AbstractHTTPHandler):
    """Opens connections in the place of yt-dlp's handler, which keeps the rest of its work."""

    handler_order = 100

    def __init__(self, context: Any) -> None:
        super().__init__()
        self._context = context

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_http, request)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_https, request, context=self._context)

    def ftp_open(self, request: urllib.request.Request) -> Any:
        raise SourceRefused("it leads to ftp://.", remedy="Give an http(s) URL.")


def _http(host: str, **options: Any) -> http.client.HTTPConnection:
    return _public(http.client.HTTPConnection(host, **options))


def _https(host: str, **options: Any) -> http.client.HTTPConnection:
    return _public(http.client.HTTPSConnection(host, **options))


def _public(connection: Any) -> http.client.HTTPConnection:
    connection._create_connection = connect
    return connection  # type: ignore[no-any-return]
