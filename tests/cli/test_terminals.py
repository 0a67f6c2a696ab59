"""No terminal, or half of one: the command says what it can, and does all of its work."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
from pathlib import Path

import pytest
from rich.cells import cell_len

from flows.cli.streams import hold_folder
from flows.cli.tables import fitted, quality_table
from tasks.recording import TrackRow
from tests.cli.conftest import BUNDLED, SCRIPT, environment
from tests.cli.test_display import console_of, written

TRACK = BUNDLED / "glass_terminal/mixture.flac"
PATIENCE_S = 240
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Give a shell a line in which `$S` is the command; both streams are read to their ends."""
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env=environment() | {"S": str(SCRIPT), "M": str(TRACK)} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize(
    "closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"], ids=["in", "out", "err", "all"]
)
def test_streams_may_be_closed(tmp_path: Path, closed: str) -> None:
    done = shell(f"$S models list {closed}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert ("htdemucs" in done.stdout) == (">&-" not in closed.split())


def test_a_closed_stdin_names_no_sources(tmp_path: Path) -> None:
    done = shell("$S plan - --model embedded <&-", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No tracks found." in done.stdout


def test_a_run_without_any_stream_in_a_folder_that_was_deleted(
    tmp_path: Path, prefect_server: str
) -> None:
    """The next file that is opened must not get the number of a closed stream."""
    run = f"$S separate $M --model embedded --library {tmp_path}/library"
    line = f"mkdir gone; cd gone; rmdir ../gone; {run} <&- >&- 2>&-"
    done = shell(line, tmp_path, PREFECT_API_URL=prefect_server)
    assert done.returncode == 0
    (stem,) = (tmp_path / "library/tracks").glob("*/*/vocals.flac")
    assert stem.read_bytes().startswith(b"fLaC")
    shown = shell(f"$S reports --library {tmp_path}/library", tmp_path)
    assert "Glass Terminal" in shown.stdout


def test_in_a_deleted_folder_nothing_is_written_anywhere_else(tmp_path: Path) -> None:
    done = shell("mkdir gone; cd gone; rmdir ../gone; $S reports --csv x.csv", tmp_path)
    assert "the working folder was deleted" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("/proc/x.csv").exists()
    assert not Path("/x.csv").exists()


def test_a_folder_that_is_there_is_kept() -> None:
    here = Path.cwd()
    assert hold_folder()
    assert Path.cwd() == here


def test_a_run_goes_on_when_nobody_reads_its_progress(tmp_path: Path, prefect_server: str) -> None:
    run = "$S separate $M --model embedded --library library 2>&1 | true"
    done = shell(run, tmp_path, PREFECT_API_URL=prefect_server)
    assert done.returncode == 0
    assert [*(tmp_path / "library/tracks").glob("*/*/report.json")]


@pytest.mark.parametrize("what", ["models list", "models list --json", "--help"])
def test_a_reader_that_has_enough_is_no_error(tmp_path: Path, what: str) -> None:
    done = shell(f"$S {what} | head -c 1", tmp_path)
    assert done.returncode in (0, 1)
    assert done.stderr == ""


def test_results_that_find_no_room_are_an_error(tmp_path: Path) -> None:
    done = shell("$S models list --json >/dev/full", tmp_path)
    assert done.returncode == 1
    assert "can't be written to stdout: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def on_terminal(folder: Path, *args: str, columns: int = 20, term: str = "xterm") -> str:
    """What the command shows on a terminal of so many columns."""
    master, slave = pty.openpty()
    variables = {"COLUMNS": str(columns), "TERM": term}
    process = subprocess.Popen(
        [SCRIPT, *args],
        cwd=folder,
        env=environment() | variables,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while select.select([master], [], [], PATIENCE_S)[0]:
        try:
            shown += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    os.close(master)
    assert process.wait(PATIENCE_S) == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("args", [("models", "list"), ("doctor", "--model", "embedded")])
def test_at_20_columns_there_is_a_line_a_fact(tmp_path: Path, args: tuple[str, ...]) -> None:
    shown = ESCAPES.sub("", on_terminal(tmp_path, *args))
    assert max(cell_len(line.rstrip()) for line in shown.splitlines()) <= 20
    assert {"models": "weights: ", "doctor": "ok hardware"}[args[0]] in shown


def test_a_dumb_terminal_is_told_without_escapes(tmp_path: Path) -> None:
    shown = on_terminal(
        tmp_path, "plan", str(TRACK), "--model", "embedded", term="dumb", columns=80
    )
    assert "\x1b" not in shown
    assert "1 to separate" in shown


def test_the_quality_table_is_facts_where_it_has_no_room() -> None:
    console = console_of(20, terminal=True)
    rows = [TrackRow(title=f"[red]{name}", verdict="fail", score=0.1) for name in ("One", "Two")]
    console.print(fitted(quality_table(rows, 20), console))
    lines = [line.rstrip() for line in ESCAPES.sub("", written(console)).splitlines()]
    assert lines[0] == "track: [red]One"
    assert "quality: poor" in lines
    assert "score: 0.10" in lines
    assert lines[lines.index("") + 1] == "track: [red]Two"
