"""The HTTP API: routes, keys, and the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import ClientDisconnect

from deployments.endpoint.answers import Health, JobAnswer, job_answer, problems
from deployments.endpoint.document import SUBMIT_BODY, openapi_document
from deployments.endpoint.jobs import Job
from deployments.endpoint.methods import readable, unchanged, wrong_method
from deployments.endpoint.metrics import CONTENT_TYPE
from deployments.endpoint.middleware import JOB_ID, Exchange
from deployments.endpoint.refusals import Refused
from deployments.endpoint.service import Service
from deployments.endpoint.settings import VERSION_PREFIX
from deployments.endpoint.submits import Submits

_DESCRIPTION = """
Separates music into stems. Submit a file, ask for the job until it is `complete`, fetch its stems.

All routes are under `/v1` too. HEAD is answered wherever GET is, with the same headers and no
body. Every error is `{"detail": "…"}`; a 405 has `Allow`.
"""
_MEDIA = {".wav": "audio/wav", ".flac": "audio/flac"}
_CLIENT_GONE = 499

bearer = HTTPBearer(
    auto_error=False, description="One of the endpoint's keys. Not needed where it has none."
)


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


def _owner(
    request: Request,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> str:
    owner = _service(request).keys.owner(request.headers.get("authorization"))
    if owner is None:
        raise Refused(
            401,
            "No valid key. Send one as `Authorization: Bearer KEY`.",
            WWW_Authenticate="Bearer",
        )
    return owner


Owner = Annotated[str, Depends(_owner)]

routes = APIRouter()
"""All that is under `/` and under `/v1`."""

_ETAG = {"ETag": {"description": "For `If-None-Match`.", "schema": {"type": "string"}}}
_UNCHANGED = {"description": "It is as `If-None-Match` has it.", "headers": _ETAG}
_AUDIO = {"schema": {"type": "string", "format": "binary"}}
_STEM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The stem.",
        "content": dict.fromkeys(_MEDIA.values(), _AUDIO),
        "headers": _ETAG,
    },
    206: {"description": "The part of the stem that `Range` asked for.", "headers": _ETAG},
    304: _UNCHANGED,
}
_TAGGED: dict[int | str, dict[str, Any]] = {200: {"headers": _ETAG}, 304: _UNCHANGED}
_NOT_WELL: dict[int | str, dict[str, Any]] = {
    503: {"model": Health, "description": "Nothing is separated."}
}


def create_app(service: Service) -> FastAPI:
    """The application, whose lifespan starts and ends the service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Stemwright separation endpoint",
        version=version("stemwright"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
    )
    app.state.service = service
    app.state.submits = Submits(service)
    app.include_router(routes)
    app.include_router(routes, prefix=VERSION_PREFIX, include_in_schema=False)
    readable(app.router, "/metrics", response_class=Response, tags=["state"])(_metrics)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(405, wrong_method)
    app.openapi = cache(partial(openapi_document, app))  # type: ignore[method-assign]
    app.add_middleware(Exchange, metrics=service.metrics)
    return app


@routes.post(
    "/separate",
    status_code=202,
    responses=problems(400, 401, 408, 413, 415, 422, 429, 503, 507),
    openapi_extra=SUBMIT_BODY,
    tags=["jobs"],
)
async def submit(
    request: Request,
    owner: Owner,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="A repeated submit with the same key, audio and fields gets the job "
            "that the first one made; with others, 422. Kept as long as the job."
        ),
    ] = None,
) -> JobAnswer:
    """Have a file separated. Answers once the upload is stored; the job waits for its turn."""
    submits: Submits = request.app.state.submits
    try:
        made = await submits.take(request, owner, idempotency_key)
    except ClientDisconnect:
        raise Refused(_CLIENT_GONE, "The client closed the connection.") from None
    request.scope[JOB_ID] = made.job_id
    return await asyncio.to_thread(_answer, request, made)


@readable(
    routes,
    "/jobs/{job_id}",
    response_model=JobAnswer,
    responses=_TAGGED | problems(401, 404),
    tags=["jobs"],
)
def job(request: Request, response: Response, job_id: str, owner: Owner) -> JobAnswer | Response:
    """A job as it stands. Ask again with growing pauses until it is `complete` or `failed`."""
    answer = _answer(request, _service(request).job(job_id, owner))
    etag = f'"{sha256(answer.model_dump_json().encode()).hexdigest()[:32]}"'
    response.headers["etag"] = etag
    return unchanged(request, etag) or answer


@routes.delete("/jobs/{job_id}", status_code=204, responses=problems(401, 404), tags=["jobs"])
def forget(request: Request, job_id: str, owner: Owner) -> Response:
    """Forget a job and its stems; a separation under way is stopped."""
    _service(request).forget(job_id, owner)
    return Response(status_code=204)


@readable(
    routes,
    "/jobs/{job_id}/stems/{file}",
    response_class=FileResponse,
    responses=_STEM | problems(401, 404, 416),
    tags=["jobs"],
)
def stem(request: Request, job_id: str, file: str, owner: Owner) -> Response:
    """One stem. Ranges are answered, so that a broken download can go on."""
    path = _service(request).stem(job_id, file, owner)
    etag = f'"{job_id}/{file}"'  # a job's stems are made once, and no two jobs have one id
    found = FileResponse(
        path, headers={"etag": etag}, media_type=_MEDIA.get(path.suffix), filename=path.name
    )
    return unchanged(request, etag) or found


@readable(routes, "/healthz", response_model=Health, responses=_NOT_WELL, tags=["state"])
def health(request: Request, response: Response) -> Health:
    """Whether the service separates. Needs no key."""
    found = _service(request).health
    response.status_code = 200 if found.status == "ok" else 503
    return found


def _metrics(request: Request) -> Response:
    """Counts and durations for Prometheus. Needs no key, and names no caller and no track."""
    return Response(_service(request).metrics.page(), media_type=CONTENT_TYPE)


def _answer(request: Request, found: Job) -> JobAnswer:
    service = _service(request)
    progress, position = service.standing(found)
    return job_answer(
        found, _base_url(request, service), progress=progress, queue_position=position
    )


def _base_url(request: Request, service: Service) -> str:
    """The base URL as the caller knows it: as configured, or as they asked at."""
    if service.settings.public_url:
        return service.settings.public_url
    base = str(request.base_url).rstrip("/")
    asked_there = request.url.path.startswith(f"{urlsplit(base).path}{VERSION_PREFIX}/")
    return f"{base}{VERSION_PREFIX if asked_there else ''}"


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return JSONResponse({"detail": f"{where}: {first['msg']}."}, 422)
