"""yt-dlp connecting only where the ingest policy allows: to pages, segments and redirects alike."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

from yt_dlp import YoutubeDL
from yt_dlp.networking._urllib import UrllibRH

from tasks.contracts import IngestPolicy
from tasks.errors import SourceRefused
from tasks.net.addresses import Guard, PublicOnly, connect


class GuardedYoutubeDL(YoutubeDL):  # type: ignore[misc]  # yt-dlp has no types
    """yt-dlp under a policy.

    It has no proxy and one way to connect, unless the policy allows everything: a proxy looks names
    up itself.
    """

    def __init__(self, policy: IngestPolicy, options: dict[str, Any]) -> None:
        self._policy = policy
        super().__init__(options if policy.allow_private_addresses else options | {"proxy": ""})

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        if self._policy.allow_private_addresses:
            return super().build_request_director(handlers, preferences)
        guarded = type("_GuardedRH", (_PublicRH,), {"guard": PublicOnly(self._policy)})
        return super().build_request_director([guarded], preferences)


class _PublicRH(UrllibRH):  # type: ignore[misc]  # yt-dlp has no types
    # yt-dlp finds preferences by this name, which it derives from the class otherwise.
    RH_KEY = "Urllib"
    guard: Guard

    def _create_instance(self, *args: Any, **options: Any) -> Any:
        opener = super()._create_instance(*args, **options)
        context = self._make_sslcontext(legacy_ssl_support=options.get("legacy_ssl_support"))
        opener.add_handler(_GuardedOpen(self.guard, context))
        return opener


class _GuardedOpen(urllib.request.AbstractHTTPHandler):
    """Opens connections in the place of yt-dlp's handler, which keeps the rest of its work."""

    handler_order = 100

    def __init__(self, guard: Guard, context: Any) -> None:
        super().__init__()
        self._connect = partial(connect, guard=guard)
        self._context = context

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._made(http.client.HTTPConnection), request)

    def https_open(self, request: urllib.request.Request) -> Any:
        made = self._made(http.client.HTTPSConnection)
        return self.do_open(made, request, context=self._context)

    def ftp_open(self, request: urllib.request.Request) -> Any:
        raise SourceRefused("it leads to ftp://.", remedy="Give an http(s) URL.")

    def _made(self, kind: type[http.client.HTTPConnection]) -> Callable[..., Any]:
        def make(host: str, **options: Any) -> Any:
            connection: Any = kind(host, **options)
            connection._create_connection = self._connect
            return connection

        return make
