"""Running a flow from the command line: Prefect embedded and quiet, interrupts in good order.

With an API's address set, by PREFECT_API_URL or a profile of Prefect's, the run shows on that
server; without, a server is started beside this process, for this run only.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, cast

import typer

from flows.cli.console import Exit, busy, moving, stop
from flows.cli.own_prefect import own_server, prepare_prefect
from flows.cli.prefect_address import Address, check_address, check_logging, read_address
from tasks.errors import StemwrightError

if TYPE_CHECKING:
    from flows.cli.options import RunOptions
    from flows.runner.setup import Prepared
    from flows.runner.summary import RunSummary

NEEDED_SOON = (
    "flows.separate_catalog",
    "tasks.normalize.normalizing",
    "demucs.hf",
    "tasks.quality.score",
    "pyarrow.dataset",
)
"""What the first track needs: imported while the server starts, on another core."""


def run_catalog(
    options: RunOptions, prepared: Prepared, *, fail_under: float = 0.0, as_json: bool
) -> RunSummary:
    """Run `separate_catalog` in this process and show how it goes.

    Raises:
        StemwrightError: The run couldn't start.
        typer.Exit: It was interrupted, or crashed; that is said already.
    """
    prepare_prefect()
    address: Address | None = None
    try:
        with _terminated_like_interrupted(), _prefect() as address:
            live = moving() and not as_json
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
        # Prefect's own: an API that can't be reached any more, a server that died.
        ended = error
    return _summary_of(ended, address, as_json=as_json)


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
def _prefect() -> Iterator[Address | None]:
    """Prefect ready to run a flow: on the server that is configured, or on one of its own.

    Raises:
        SettingsError: That server isn't there, ours didn't start, or Prefect's settings are broken.
    """
    address = read_address()
    check_logging()
    if address:
        check_address(address)
        yield address
        return
    with busy("starting Prefect…"), ExitStack() as stack:
        url = stack.enter_context(own_server(NEEDED_SOON, _patience_s()))
        stack.enter_context(_asking(url))
        running = stack.pop_all()
    with running:
        yield None


def _patience_s() -> float:
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    return float(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())


@contextmanager
def _asking(url: str) -> Iterator[None]:
    """Prefect's client asks the server of this run, and shows it nobody's keys."""
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_KEY,
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    ours = {PREFECT_API_URL: url, PREFECT_API_KEY: None, PREFECT_API_AUTH_STRING: None}
    # Nobody reads what a server for one run keeps, and the heartbeat's thread costs a second.
    quick = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(ours | quick):
        yield


def _summary_of(ended: object, address: Address | None, *, as_json: bool) -> RunSummary:
    if isinstance(ended, StemwrightError):
        raise ended
    if isinstance(ended, BaseException):
        message = f"the run crashed: {type(ended).__name__}: {ended}"
        remedy = "Run the same command again: what was finished is kept."
        if address and "Failed to reach API" in message:
            remedy = f"{address.remedy} What was finished is kept."
        stop(Exit.SOME_FAILED, type(ended).__name__, message, remedy, as_json=as_json)
    return cast("RunSummary", ended)
