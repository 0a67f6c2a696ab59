"""A run reads its settings once and makes its engine once, whoever starts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tasks.separation.factory
from flows.cli import embedded
from flows.cli.options import RunOptions
from flows.cli.separate import run
from flows.runner import setup
from tests.flows.studio import run_track, write_track

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often settings were loaded and engines made."""
    calls: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    counted(setup, "load_settings")
    counted(tasks.separation.factory, "make_engine")
    return calls


def test_the_command_hands_what_it_made_on_to_its_flow(
    tmp_path: Path, config: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What belongs to a process of the command's own, and would stay behind in this one.
    monkeypatch.setattr(embedded, "prepare_prefect", lambda: None)
    monkeypatch.setattr("flows.cli.separate.set_up_logging", lambda level: None)
    source = write_track(tmp_path / "a.flac", 1)
    options = RunOptions(sources=[str(source)], library=str(tmp_path / "library"), config=config)
    summary = run(options, as_json=True)
    assert (summary.done, summary.failed) == (1, 0)
    assert calls == {"load_settings": 1, "make_engine": 1}


def test_a_flow_that_somebody_else_starts_makes_its_own(
    tmp_path: Path, config: Path, calls: Counter[str]
) -> None:
    ran = run_track(write_track(tmp_path / "a.flac", 1), tmp_path / "library", config)
    assert ran.summary.done == 1
    assert calls == {"load_settings": 1, "make_engine": 1}
