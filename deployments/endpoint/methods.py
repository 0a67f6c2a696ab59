"""What HTTP asks of every route: HEAD beside GET, `Allow` with a 405, 304 for what is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.routing import Match

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

Endpoint = Callable[..., Any]


def readable(router: APIRouter, path: str, **how: Any) -> Callable[[Endpoint], Endpoint]:
    """Register a route for GET, and for HEAD, which the document describes once for all."""

    def register(endpoint: Endpoint) -> Endpoint:
        router.add_api_route(path, endpoint, methods=["GET"], **how)
        router.add_api_route(path, endpoint, methods=["HEAD"], **how | {"include_in_schema": False})
        return endpoint

    return register


async def wrong_method(request: Request, _: Exception) -> JSONResponse:
    """Answer 405 with all methods of the path: the router names those of one route only."""
    taken = [method for method in _METHODS if _is_taken(request, method)]
    detail = f"{request.method} isn't taken here. Send {' or '.join(taken)}."
    return JSONResponse({"detail": detail}, 405, {"allow": ", ".join(taken)})


def _is_taken(request: Request, method: str) -> bool:
    asked = {**request.scope, "method": method}
    return any(route.matches(asked)[0] is Match.FULL for route in request.app.routes)


def unchanged(request: Request, etag: str) -> Response | None:
    """Return the 304 for whoever has this already, by their `If-None-Match`."""
    said = request.headers.get("if-none-match", "")
    known = {tag.strip().removeprefix("W/") for tag in said.split(",")}
    return Response(status_code=304, headers={"etag": etag}) if {etag, "*"} & known else None
