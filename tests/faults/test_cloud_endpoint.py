"""The client against `stemwright endpoint` itself, which is killed in the middle of a job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.endpoint.jobs import JobStore
from tasks.contracts import STEMS, Mixture, SeparationSettings, StemSet
from tasks.net.retries import RetryPolicy
from tasks.separation.cloud import CloudEngine, make_provider
from tasks.separation.request import SeparationRequest
from tests.endpoint.house import KEY, command, held_device, kill, until
from tests.separation.conftest import make_mixture
from tests.tiny_model import make_tiny_model

__all__ = ["make_mixture"]

PATIENT = RetryPolicy(max_retries=10_000, max_backoff_seconds=0.1)


@pytest.mark.slow
def test_the_service_is_killed_and_started_again_mid_job(
    make_mixture: Callable[..., Mixture], tmp_path: Path
) -> None:
    models_dir, data = make_tiny_model(tmp_path / "models"), tmp_path / "data"
    options = ("--model", "tiny", "--models-dir", models_dir, "--data", data, "--offline")
    mixture = make_mixture(seconds=0.5)
    found: list[StemSet] = []
    with command(*options) as first, held_device():
        base_url = first.banner["base URL"]
        separator = CloudEngine(
            "tiny",
            provider=make_provider("stemwright", base_url=base_url, api_key=KEY),
            policy=PATIENT,
        )
        settings = SeparationSettings(model="tiny")
        work = threading.Thread(
            target=lambda: found.append(
                separator.separate(SeparationRequest(mixture, tmp_path / "s", settings))
            )
        )
        work.start()
        until(lambda: jobs_in(data) or None, "the job to arrive")
        kill(first.process)
    port = base_url.rpartition(":")[2].partition("/")[0]
    with command(*options, "--port", port):
        work.join(120)
        assert [tuple(stem_set.stems) for stem_set in found] == [STEMS]
        assert jobs_in(data) == 1
        separator.release(mixture.track_id)
        separator.close()
        assert jobs_in(data) == 0


def jobs_in(data: Path) -> int:
    store = JobStore(data / "jobs.sqlite3")
    try:
        return len(store.ids())
    finally:
        store.close()
