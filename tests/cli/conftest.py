"""The command, run in this process where that is cheap, and as the console script where not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import soundfile
from typer.testing import CliRunner, Result

import tasks.sources
from flows.cli import app
from flows.cli.own_prefect import PATIENCE

BUNDLED = Path(tasks.sources.__file__).parent / "bundled"
SCRIPT = Path(sys.executable).with_name("stemwright")

Invoke = Callable[..., Result]


@pytest.fixture
def stemwright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """The command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*args: object, stdin: str = "") -> Result:
        return CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)

    return invoke


def document(result: Result) -> Any:
    """The one JSON document on stdout."""
    return json.loads(result.stdout)


def no_prefect(*args: object, **named: object) -> None:
    """Stands where a run would start."""
    raise AssertionError("a run was started")


@dataclass(frozen=True)
class Done:
    """The console script after its end."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


def environment() -> dict[str, str]:
    """A user's: no settings of Prefect's or ours but the folder for Prefect's own files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {
        "PREFECT_HOME": os.environ["PREFECT_HOME"],
        # Cores that several test processes share start nothing within a user's patience.
        PATIENCE: os.environ[PATIENCE],
        "OMP_NUM_THREADS": "2",
        "COLUMNS": "80",
    }


def run_script(*args: object, cwd: Path, stdin: str = "", server: str = "") -> Done:
    """Run the console script as a user's shell does, with pipes.

    Args:
        server: Of a Prefect that runs already; if empty, the command starts one for itself.
    """
    done = subprocess.run(
        [SCRIPT, *map(str, args)],
        cwd=cwd,
        input=stdin,
        env=environment() | ({"PREFECT_API_URL": server} if server else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def write_excerpt(piece: str, path: Path, *, seconds: int = 5) -> Path:
    """Some seconds of a bundled piece's mixture, from where all of its instruments play."""
    source = BUNDLED / piece / "mixture.flac"
    rate = soundfile.info(source).samplerate
    samples, _ = soundfile.read(source, start=4 * rate, stop=(4 + seconds) * rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path
