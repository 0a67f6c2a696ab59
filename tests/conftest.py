"""What every test shares: nothing of this machine's settings, and a Prefect server on demand."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest

# Prefect reads its environment when it is imported, so this stands before any test module.
for _name in [name for name in os.environ if name.startswith(("PREFECT_", "STEMWRIGHT_"))]:
    del os.environ[_name]
_prefect_home = tempfile.mkdtemp(prefix="stemwright-prefect-")
_state = tempfile.mkdtemp(prefix="stemwright-state-")
for _folder in (_prefect_home, _state):
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ.update(
    # Each test has its own; this one is for fixtures that live longer than a test.
    STEMWRIGHT_STATE=_state,
    PREFECT_HOME=_prefect_home,
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="180",
    DO_NOT_TRACK="1",
)

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each core has a worker of its own: torch's and BLAS's threads would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores interrupts, and so would the commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path_factory.mktemp("state")
    # But commands start their servers from one seed: to make another takes seconds each time.
    seeds = tmp_path_factory.getbasetemp().with_name("prefect-seeds")
    seeds.mkdir(exist_ok=True)
    (state / "prefect").symlink_to(seeds, target_is_directory=True)
    monkeypatch.setenv("STEMWRIGHT_STATE", str(state))


@pytest.fixture(autouse=True)
def _conversions_kept(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A conversion takes seconds, and what it is of is in its name.
    kept = tmp_path_factory.getbasetemp() / "openvino"
    monkeypatch.setattr("tasks.separation.local.openvino_core.cache_folder", lambda: kept)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """A real Prefect server for the tests that ask for one; gives its API's URL."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    quicker = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(quicker), prefect_test_harness(server_startup_timeout=180):
        yield str(PREFECT_API_URL.value())
