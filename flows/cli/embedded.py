"""Running a flow from the command line: Prefect embedded and quiet, interrupts in good order.

With an API's address set, by PREFECT_API_URL or a profile of Prefect's, the run shows on that
server; without, a server is started beside this process, for this run only.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Self, cast

import typer

from flows.cli.console import Exit, busy, moving, stop
from flows.cli.own_prefect import OwnServer, own_server, prepare_prefect
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


class Prefect:
    """Prefect for one command. Its own server takes seconds to start, so it may begin before the
    command knows all that it will do."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._begun = False
        self._server: OwnServer | None = None
        self.address: Address | None = None
        """The API that the user set."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._held.close()

    @property
    def is_own(self) -> bool:
        """Whether nobody will ever look at what this server shows."""
        return self.address is None

    def begin(self) -> None:
        """Start what will be needed, without waiting for it.

        Raises:
            SettingsError: Prefect's own settings are broken.
        """
        if self._begun:
            return
        self._begun = True
        prepare_prefect()
        self.address = read_address()
        if self.is_own:
            self._server = self._held.enter_context(own_server())

    def ready(self) -> None:
        """Wait until a flow can run.

        Raises:
            SettingsError: The configured server isn't there, ours didn't start, or Prefect's
                settings are broken.
        """
        self.begin()
        check_logging()
        if self.address:
            check_address(self.address)
        if self._server:
            with busy("starting Prefect…"):
                for name in NEEDED_SOON:
                    import_module(name)
                url = self._server.ready(_patience_s())
                self._held.enter_context(_asking(url))


def run_catalog(
    options: RunOptions,
    prepared: Prepared,
    prefect: Prefect,
    *,
    fail_under: float = 0.0,
    as_json: bool,
) -> RunSummary:
    """Run `separate_catalog` in this process and show how it goes.

    Raises:
        StemwrightError: The run couldn't start.
        typer.Exit: It was interrupted, or crashed; that is said already.
    """
    try:
        with _terminated_like_interrupted():
            prefect.ready()
            live = moving() and not as_json
            with _unseen() if prefect.is_own else nullcontext():
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
    return _summary_of(ended, prefect.address, as_json=as_json)


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


def _unseen() -> AbstractContextManager[None]:
    from flows.runner.artifacts import unseen

    return unseen()


def _patience_s() -> float:
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    return float(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())


@contextmanager
def _asking(url: str) -> Iterator[None]:
    """Prefect's client asks the server of this run, and shows it nobody's keys."""
    from prefect.events.clients import NullEventsClient
    from prefect.events.worker import EventsWorker
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
    EventsWorker.set_client_override(NullEventsClient)
    try:
        with temporary_settings(ours | quick):
            yield
    finally:
        # It would go on asking a server that has ended.
        EventsWorker.instance().drain()
        EventsWorker.set_client_override(None)


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
