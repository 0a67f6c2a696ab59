"""The OpenAPI document, with what FastAPI can't know: the submit's form, and our own 422."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from deployments.endpoint.answers import JOB_EXAMPLE

_FOREIGN = ("HTTPValidationError", "ValidationError")

_FIELDS: dict[str, Any] = {
    "audio": {
        "type": "string",
        "format": "binary",
        "description": "Any codec that FFmpeg reads. Stereo at the model's rate (44100 Hz) in a "
        "lossless format is separated as it is, sample for sample.",
    },
    "stems": {
        "type": "string",
        "default": "",
        "description": 'Names joined by commas, or "4" for drums, bass, other and vocals. Empty: '
        "every stem of the model.",
        "examples": ["4", "vocals,drums"],
    },
    "format": {
        "type": "string",
        "enum": ["wav", "flac"],
        "default": "wav",
        "description": "Of the stems; both are lossless.",
    },
    "bit_depth": {
        "type": "string",
        "enum": ["16", "24", "32f"],
        "default": "24",
        "description": "Of the stems. 32f, floats at their own level, is for wav only.",
    },
    "model": {
        "type": "string",
        "default": "",
        "description": "A model that is on this machine. Empty: the endpoint's own.",
        "examples": ["htdemucs"],
    },
}

SUBMIT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["audio"], "properties": _FIELDS},
                "encoding": {"audio": {"contentType": "audio/*"}},
            }
        },
    }
}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The document of an application's routes."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    # FastAPI leaves nulls out of examples.
    schemas["JobAnswer"]["examples"] = [JOB_EXAMPLE]
    for name in _FOREIGN:
        schemas.pop(name, None)
    for methods in document["paths"].values():
        for operation in methods.values():
            if _FOREIGN[0] in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return document
