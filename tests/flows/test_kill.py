"""A run may be stopped at any moment: what was finished stays, and the same command goes on.

One library goes through five runs of the real command: killed while it separates, killed when a
track was committed, interrupted, terminated, and at last left alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.contracts import STEMS
from tests.flows.studio import files_under, finished_in, write_config, write_track

TRACKS = 9
PATIENCE_S = 240.0


@dataclass
class Step:
    """One run of the command: how it ended, and what the library held before and after it."""

    code: int
    said: str
    document: dict[str, Any] | None
    before: dict[str, int]
    after: dict[str, int]
    scratch: list[str]


@dataclass
class Story:
    folder: Path
    server: str
    config: Path
    steps: dict[str, Step] = field(default_factory=dict)

    @property
    def library(self) -> Path:
        return self.folder / "library"

    def run(
        self, name: str, sign: int | None = None, when: Callable[[], bool] = lambda: True
    ) -> None:
        """Run the command, and send it a signal once `when` holds."""
        before = finished_in(self.library)
        with (
            (self.folder / f"{name}.out").open("w+") as out,
            (self.folder / f"{name}.err").open("w+") as err,
        ):
            process = subprocess.Popen(
                [
                    *(Path(sys.executable).with_name("stemwright"), "separate"),
                    *(self.folder / "music", "--library", self.library),
                    *("--config", self.config, "--json"),
                ],
                stdout=out,
                stderr=err,
                env=os.environ | {"PREFECT_API_URL": self.server, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
            try:
                if sign is not None:
                    self._wait(process, when)
                    process.send_signal(sign)
                code = process.wait(PATIENCE_S)
            finally:
                process.kill()
            out.seek(0)
            err.seek(0)
            text = out.read()
            self.steps[name] = Step(
                code,
                err.read(),
                json.loads(text) if text else None,
                before,
                finished_in(self.library),
                [path for path in files_under(self.library) if path.startswith(".scratch")],
            )

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], when: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not when():
            assert process.poll() is None, "the run ended before it could be stopped"
            assert time.monotonic() < until
            time.sleep(0.002)

    def separating(self) -> bool:
        return any(self.library.glob(".scratch/*/*/separation/drums.flac"))

    def one_more(self) -> Callable[[], bool]:
        before = len(finished_in(self.library))
        return lambda: len(finished_in(self.library)) > before


@pytest.fixture(scope="module")
def story(prefect_server: str, tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Story:
    folder = tmp_path_factory.mktemp("kill")
    for seed in range(TRACKS):
        write_track(folder / f"music/{seed}.flac", seed, seconds=3.0)
    config = write_config(folder / "c.yaml", models_dir)
    story = Story(folder, prefect_server, config)
    story.run("killed separating", signal.SIGKILL, story.separating)
    story.run("killed after a commit", signal.SIGKILL, story.one_more())
    story.run("interrupted", signal.SIGINT, story.one_more())
    story.run("terminated", signal.SIGTERM, story.one_more())
    story.run("left alone")
    return story


def test_a_killed_run_leaves_scratch_that_the_next_one_clears(story: Story) -> None:
    step = story.steps["killed separating"]
    assert step.code == -signal.SIGKILL
    assert step.scratch, "it was killed at work"
    assert story.steps["left alone"].scratch == []
    assert not (story.library / ".scratch").exists()


@pytest.mark.parametrize("name", ["interrupted", "terminated"])
def test_an_interrupt_ends_in_good_order(story: Story, name: str) -> None:
    step = story.steps[name]
    assert step.code == 130, step.said
    assert "same command goes on where it stopped" in step.said
    assert "Traceback" not in step.said
    assert step.document is not None
    assert step.document["exit_code"] == 130
    assert step.scratch == []
    assert len(step.before) < len(step.after) < TRACKS


def test_what_was_finished_is_never_touched_again(story: Story) -> None:
    for step in story.steps.values():
        assert step.before.items() <= step.after.items()


def test_nothing_is_repeated(story: Story) -> None:
    last = story.steps["left alone"]
    assert last.code == 0, last.said
    assert last.document is not None
    kept = len(last.before)
    assert 0 < kept < TRACKS
    assert (last.document["already"], last.document["done"]) == (kept, TRACKS - kept)
    assert last.document["failed"] == 0


def test_at_the_end_everything_is_there_once(story: Story) -> None:
    assert len(finished_in(story.library)) == TRACKS
    for place in finished_in(story.library):
        names = {path.name for path in (story.library / place).iterdir()}
        assert names == {"report.json", "mixture.flac", *(f"{stem}.flac" for stem in STEMS)}
    tracks = pd.read_parquet(story.library / "reports/tracks")
    assert len(tracks) == TRACKS
    assert tracks["track_id"].is_unique
    stems = pd.read_parquet(story.library / "reports/stems")
    assert len(stems) == TRACKS * len(STEMS)
    assert not (story.library / "reports/failures").exists(), "an interrupt is nobody's failure"
