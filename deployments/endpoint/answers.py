"""The shapes of the endpoint's answers, as its OpenAPI document shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from deployments.endpoint.jobs import Job, Status

JOB_EXAMPLE: dict[str, Any] = {
    "job_id": "5f0c9a3e8b7d4c21a6e4f9d2b1c03e58",
    "status": "complete",
    "stems": {
        "drums": "http://127.0.0.1:8765/v1/jobs/5f0c9a3e8b7d4c21a6e4f9d2b1c03e58/stems/drums.wav",
        "vocals": "http://127.0.0.1:8765/v1/jobs/5f0c9a3e8b7d4c21a6e4f9d2b1c03e58/stems/vocals.wav",
    },
    "error_message": None,
    "model": "htdemucs",
    "created_at": "2026-11-24T14:03:07Z",
    "expires_at": "2026-11-25T14:05:11Z",
    "duration_s": 214.6,
    "gain": 1.0,
    "progress": 1.0,
    "queue_position": None,
    "separation_s": 121.9,
}


class JobAnswer(BaseModel):
    """A job. Clients pass over fields that they don't know."""

    job_id: str
    status: Status
    stems: dict[str, str] | None = Field(
        description="Each stem's name and URL once the job is complete; as long as the mixture to "
        "the sample, at the model's rate."
    )
    error_message: str | None = Field(description="Why it failed, and what to do about it.")
    model: str
    created_at: datetime
    expires_at: datetime | None = Field(
        description="When the job and its stems are removed; null while it is unfinished."
    )
    duration_s: float | None = Field(description="Of the audio, in seconds, as far as it is known.")
    gain: float = Field(
        description="What all stems are multiplied by so that none clips. Divided by it, they sum "
        "to what was sent as nearly as the model makes them."
    )
    progress: float = Field(ge=0, le=1, description="The share of the separation that is done.")
    queue_position: int | None = Field(
        description="How many jobs wait before this one; null unless it is queued."
    )
    separation_s: float | None = Field(description="What the separation took, in seconds.")


class Problem(BaseModel):
    """What was wrong, and what to do about it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"detail": "There is no such job, or it has expired."}]}
    )

    detail: str


class Health(BaseModel):
    """`ok`, or why nothing is separated: `stopping` or `broken`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ok", "version": "0.1.0"}]}
    )

    status: str
    version: str


def job_answer(
    job: Job, base_url: str, *, progress: float | None, queue_position: int | None
) -> JobAnswer:
    """A job as its owner sees it; `base_url` is the one that they asked at."""
    complete = job.status == "complete"
    at = f"{base_url}/jobs/{job.job_id}/stems"
    return JobAnswer(
        job_id=job.job_id,
        status=job.status,
        stems={name: f"{at}/{file}" for name, file in job.files.items()} if complete else None,
        error_message=job.error_message,
        model=job.model,
        created_at=_time(job.created_at),
        expires_at=None if job.expires_at is None else _time(job.expires_at),
        duration_s=job.duration_s,
        gain=job.gain,
        progress=1.0 if complete else progress or 0.0,
        queue_position=queue_position,
        separation_s=job.separation_s,
    )


def _time(stamp: float) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for the OpenAPI document."""
    said = {
        400: "The form is malformed.",
        401: "No valid key.",
        404: "No such job or stem, or it has expired.",
        408: "The upload stalled.",
        413: "Larger or longer than what is taken.",
        415: "Not audio, or no multipart form.",
        416: "A range beyond the stem's end.",
        422: "A field that can't be, or an idempotency key that was used for something else.",
        429: "The queue is full; `Retry-After` says when a place is likely.",
        503: "The service is stopping; `Retry-After` says when to try again.",
        507: "The service's disk is full.",
    }
    waits = {
        "Retry-After": {"description": "In seconds.", "schema": {"type": "integer", "minimum": 1}}
    }
    return {
        status: {
            "model": Problem,
            "description": said[status],
            **({"headers": waits} if status in (429, 503) else {}),
        }
        for status in statuses
    }
