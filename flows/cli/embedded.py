"""Running a flow from the command line: Prefect embedded and quiet, interrupts in good order.

With PREFECT_API_URL set, the run shows on that server; without, Prefect starts a server of its
own beside this process, for this run only.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, cast

import typer

from flows.cli.console import Exit, busy, err, stop
from tasks.errors import StemwrightError

if TYPE_CHECKING:
    from prefect.server.api.server import SubprocessASGIServer

    from flows.cli.options import RunOptions
    from flows.runner.setup import Prepared
    from flows.runner.summary import RunSummary

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    # One database write for many task runs, not one each.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
}

NEEDED_SOON = (
    "flows.separate_catalog",
    "tasks.normalize.normalizing",
    "demucs.hf",
    "tasks.quality.score",
    "pyarrow.dataset",
)
"""What the first track needs: imported while the server starts, on another core."""


def prepare_prefect() -> None:
    """Prefect's settings for an embedded run; whatever the user set stays. Before its import."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def run_catalog(
    options: RunOptions, prepared: Prepared, *, fail_under: float = 0.0, as_json: bool
) -> RunSummary:
    """Run `separate_catalog` in this process and show how it goes.

    Raises:
        StemwrightError: The run couldn't start.
        typer.Exit: It was interrupted, or crashed; that is said already.
    """
    prepare_prefect()
    try:
        with _terminated_like_interrupted(), _prefect():
            live = err.is_terminal and not as_json
            ended = _run(options, prepared, fail_under=fail_under, live=live)
    except KeyboardInterrupt:
        stop(
            Exit.INTERRUPTED,
            "Interrupted",
            "what was finished is kept.",
            "The same command goes on where it stopped.",
            as_json=as_json,
        )
    except (StemwrightError, typer.Exit):
        raise
    except Exception as error:
        # Prefect's own: an API that can't be reached, a server that doesn't start or that died.
        ended = error
    return _summary_of(ended, as_json=as_json)


def _run(options: RunOptions, prepared: Prepared, *, fail_under: float, live: bool) -> object:
    from flows.cli.progress import Bars, Lines
    from flows.parameters import CatalogSources
    from flows.runner.progress import followed_by
    from flows.runner.setup import prepared_as
    from flows.separate_catalog import separate_catalog

    display = Bars() if live else Lines()
    with display, followed_by(display), prepared_as(prepared):
        state = separate_catalog(
            CatalogSources(sources=options.sources, limit=options.limit),
            options.separation,
            options.control(fail_under=fail_under),
            return_state=True,
        )
        return state.result(raise_on_failure=False)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends a run the way Ctrl-C does: at a safe point, keeping what is finished."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _prefect() -> Iterator[None]:
    """Prefect ready to run a flow: on the server that is configured, or on one of its own."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    if PREFECT_API_URL.value():
        yield
        return
    # Nobody reads what a server for one run keeps, and the heartbeat's thread costs a second.
    quick = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(quick), _own_server():
        yield


@contextmanager
def _own_server() -> Iterator[None]:
    """Prefect's temporary server, started while this process imports what the run needs."""
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()
    with busy("starting Prefect…"), ThreadPoolExecutor(1) as starter:
        started = starter.submit(_start, server)
        try:
            for name in NEEDED_SOON:
                importlib.import_module(name)
            started.result()
        except BaseException:
            server.stop()
            raise
    try:
        with _ended_with_us(server):
            yield
    finally:
        server.stop()


@contextmanager
def _ended_with_us(server: SubprocessASGIServer) -> Iterator[None]:
    """Whoever kills this process leaves nobody to stop the server, so a guard does: a shell that
    waits for the end of its input, which the kernel closes however this process ends."""
    process = server.server_process
    if process is None:
        yield
        return
    guard = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill "$0" 2>/dev/null', str(process.pid)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()


def _start(server: SubprocessASGIServer) -> None:
    # Ctrl-C goes to every process of a terminal's job. The server inherits this thread's mask and
    # so outlives it: the run needs it to come to its end in good order.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    server.start()


def _summary_of(ended: object, *, as_json: bool) -> RunSummary:
    if isinstance(ended, StemwrightError):
        raise ended
    if isinstance(ended, BaseException):
        message = f"the run crashed: {type(ended).__name__}: {ended}"
        remedy = "Run the same command again: what was finished is kept."
        if "Failed to reach API" in message:
            remedy = "Start it (`prefect server start`), or unset PREFECT_API_URL to do without."
        stop(Exit.SOME_FAILED, type(ended).__name__, message, remedy, as_json=as_json)
    return cast("RunSummary", ended)
