"""What is logged is seen: on stderr, and in the log of a deployed run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli.console import set_up_logging
from flows.logs import LOGGERS

SERVER_ENV = Path(__file__).parents[2] / "deployments" / "server.env"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.parametrize("name", ["flows.runner", "tasks.separation.cloud.transport"])
def test_lines_of_the_level_that_was_set_are_shown(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("INFO")
    logging.getLogger(name).info("POST /separate: no answer. Try 2 of 20 in 1.0 s")
    logging.getLogger(name).debug("too much")
    logging.getLogger("httpx").info("somebody else's")
    shown = capsys.readouterr()
    assert shown.err == "info: POST /separate: no answer. Try 2 of 20 in 1.0 s\n"
    assert shown.out == ""


def test_prefect_takes_our_loggers_over() -> None:
    lines = SERVER_ENV.read_text().splitlines()
    assert f"PREFECT_LOGGING_EXTRA_LOGGERS={','.join(LOGGERS)}" in lines
