"""The console script end to end: real processes, real audio, Prefect's own server beside them.

Each run starts a server, which takes seconds: a run is made once, and several tests look at it.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.conftest import (
    SCRIPT,
    Done,
    Invoke,
    document,
    environment,
    run_script,
    write_excerpt,
)

CHATTER = re.compile(r"prefect|uvicorn|sqlalchemy|traceback", re.IGNORECASE)
TITLE = "[red]x[/] :fire: 🎸"
PIECES = ("glass_terminal", "iron_harbour", "paper_lanterns")
SEPARATE = ("separate", "--model", "embedded", "--library", "library")


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- a catalog with some of everything, as JSON in a pipe -----------------------------------------


@dataclass
class Catalog:
    folder: Path
    planned: Done
    after_plan: list[str]
    before_plan: list[str]
    run: Done


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A track, the same audio again, a text file, a missing file and a row without a source."""
    folder = tmp_path_factory.mktemp("catalog")
    write_excerpt("costa_lenta", folder / "a.flac")
    shutil.copy(folder / "a.flac", folder / "twin.flac")
    (folder / "words.mp3").write_text("This is no music.\n" * 500)
    (folder / "songs.csv").write_text(
        "source,title,artist,mood\n"
        f"a.flac,{TITLE},../../etc/passwd,calm\n"
        "twin.flac,Twin,,\n"
        "words.mp3,,,\n"
        "missing.flac,,,\n"
        ",No Source,,\n"
    )
    before = files_under(folder)
    planned = run_script(
        "plan", "songs.csv", "https://127.0.0.1:9/stream", *SEPARATE[1:], "--json", cwd=folder
    )
    after = files_under(folder)
    return Catalog(
        folder,
        planned,
        after,
        before,
        run_script(*SEPARATE, "songs.csv", "--jobs", "1", "--json", cwd=folder),
    )


def test_plan_changes_nothing(catalog: Catalog) -> None:
    assert catalog.planned.code == 0, catalog.planned.stderr
    assert catalog.after_plan == catalog.before_plan


def test_plan_and_run_agree(catalog: Catalog) -> None:
    plan, ran = catalog.planned.document, catalog.run.document
    actions = [track["action"] for track in plan["tracks"]]
    assert actions == ["separate", "duplicate", "refused", "refused", "refused", "unseen"]
    assert plan["found"] - plan["unseen"] == 5
    assert plan["to_separate"] - plan["unseen"] == ran["done"] == 1
    assert plan["duplicates"] == ran["duplicates"] == 1
    assert plan["refused"] == ran["failed"] == 3
    assert plan["already"] == ran["already"] == 0
    assert plan["separation_id"] == ran["separation_id"]
    refused = {track["source"]: track["why"] for track in plan["tracks"] if track["why"]}
    for failure in ran["failures"]:
        assert refused[failure["source"]] == failure["message"]


def test_exit_code_1_and_one_document_on_stdout(catalog: Catalog) -> None:
    ran = catalog.run
    assert ran.code == 1
    assert ran.document["exit_code"] == 1
    assert {Path(f["source"]).name: f["stage"] for f in ran.document["failures"]} == {
        "words.mp3": "normalize",
        "missing.flac": "ingest",
        "songs.csv": "catalog",
    }
    assert all(f["message"] and f["remedy"] for f in ran.document["failures"])


def test_progress_is_plain_lines_on_stderr_and_prefect_is_quiet(catalog: Catalog) -> None:
    said = catalog.run.stderr
    assert "\x1b" not in said
    assert not CHATTER.search(said), said
    assert f"../../etc/passwd – {TITLE}: " in said
    assert re.search(r"\[\d of 5\] .*words\.mp3: failed in normalize", said)
    assert re.search(r"\d× real time", said)


def test_a_title_is_only_a_title(catalog: Catalog) -> None:
    (track,) = [track for track in catalog.run.document["tracks"] if track["status"] == "done"]
    library = catalog.folder / "library"
    place = Path(track["folder"])
    assert place.parent.parent == library / "tracks"
    assert sorted(path.name for path in place.iterdir()) == [
        "bass.flac",
        "drums.flac",
        "mixture.flac",
        "other.flac",
        "report.json",
        "vocals.flac",
    ]
    report = json.loads((place / "report.json").read_text())
    assert (report["title"], report["extra"]) == (TITLE, {"mood": "calm"})
    assert {path.name for path in library.iterdir()} == {"tracks", "reports"}


def test_reports_shows_the_run(catalog: Catalog, stemwright: Invoke) -> None:
    library = ("--library", catalog.folder / "library")
    assert TITLE in stemwright("reports", *library).stdout
    assert document(stemwright("reports", *library, "--failures", "--json"))["count"] == 3


def test_plan_knows_what_is_done_and_what_failed(catalog: Catalog, stemwright: Invoke) -> None:
    plan = ("plan", catalog.folder / "songs.csv", "--library", catalog.folder / "library")
    again = document(stemwright(*plan, "--model", "embedded", "--json"))
    assert (again["to_separate"], again["already"], again["refused"]) == (0, 2, 3)
    assert again["speed_measured"]
    forced = document(stemwright(*plan, "--model", "embedded", "--force", "--json"))
    assert (forced["to_separate"], forced["already"], forced["duplicates"]) == (1, 0, 1)


# --- Ctrl-C on a terminal, and the same command again ---------------------------------------------


@dataclass
class Interrupted:
    folder: Path
    screen: str
    code: int
    finished: dict[str, int]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    for seconds, piece in zip((5, 10, 10), PIECES, strict=True):
        write_excerpt(piece, folder / f"music/{piece}.flac", seconds=seconds)
    return folder


def finished_in(library: Path) -> dict[str, int]:
    return {
        path.parent.parent.name: path.stat().st_ino
        for path in library.glob("tracks/*/*/report.json")
    }


def read_until(master: int, pattern: str, screen: str, until: float) -> str:
    """What the terminal shows until it shows `pattern`, or the process ends."""
    while not re.search(pattern, screen) and time.monotonic() < until:
        if select.select([master], [], [], 0.2)[0]:
            try:
                screen += os.read(master, 65_536).decode("utf-8", "replace")
            except OSError:
                break
    return screen


@pytest.fixture(scope="module")
def interrupted(album: Path) -> Interrupted:
    """A run on a terminal of its own, stopped with Ctrl-C once its first track is finished."""
    master, slave = pty.openpty()
    command = [str(SCRIPT), *SEPARATE, "music", "--jobs", "1"]
    process = subprocess.Popen(
        command,
        cwd=album,
        env=environment() | {"TERM": "xterm-256color"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        process_group=0,
    )
    os.close(slave)
    screen = read_until(master, r": (good|check|poor) \d", "", time.monotonic() + 200)
    # What a terminal does: the whole job gets it, Prefect's server included.
    os.killpg(process.pid, signal.SIGINT)
    screen = read_until(master, r"interrupted: [^$]*stopped\.", screen, time.monotonic() + 60)
    code = process.wait(timeout=60)
    os.close(master)
    return Interrupted(album, screen, code, finished_in(album / "library"))


def test_ctrl_c_ends_with_130_and_keeps_what_is_finished(interrupted: Interrupted) -> None:
    assert interrupted.code == 130
    assert "what was finished is kept" in interrupted.screen
    assert 1 <= len(interrupted.finished) < len(PIECES)
    assert {path.name for path in (interrupted.folder / "library").iterdir()} == {
        "tracks",
        "reports",
    }


def test_the_terminal_shows_bars_and_nothing_of_prefect(interrupted: Interrupted) -> None:
    screen = interrupted.screen.replace("starting Prefect…", "")
    assert not CHATTER.search(screen), screen
    for shown in ("all tracks", "━", "separating, ", "of 3", "× real time"):
        assert shown in screen


@pytest.fixture(scope="module")
def resumed(interrupted: Interrupted, prefect_server: str) -> Done:
    """The same command again, its sources on stdin this time."""
    return run_script(
        *SEPARATE, "-", cwd=interrupted.folder, stdin="music\n", server=prefect_server
    )


def test_the_same_command_goes_on_where_it_stopped(interrupted: Interrupted, resumed: Done) -> None:
    assert resumed.code == 0, resumed.stderr
    kept = len(interrupted.finished)
    assert f"{len(PIECES) - kept} separated, {kept} already done, 0 failed." in resumed.stdout
    now = finished_in(interrupted.folder / "library")
    assert len(now) == len(PIECES)
    assert interrupted.finished.items() <= now.items()
    assert len(pd.read_parquet(interrupted.folder / "library/reports/tracks")) == len(PIECES)


def test_the_table_has_what_was_there_too(interrupted: Interrupted, resumed: Done) -> None:
    for piece in PIECES:
        assert re.search(rf"^ *{piece}.flac .* (good|check|poor) ", resumed.stdout, re.M)
    assert f"{interrupted.folder}/library/tracks" in resumed.stdout
    assert not CHATTER.search(resumed.stdout + resumed.stderr)


# --- the quality gate -----------------------------------------------------------------------------


def test_a_score_under_the_gate_is_exit_code_3(
    tmp_path: Path, album: Path, resumed: Done, prefect_server: str
) -> None:
    """In the same library: forced, so that there is a separation for the gate to look at."""
    source = album / "music/iron_harbour.flac"
    ran = run_script(
        *SEPARATE,
        source,
        "--force",
        "--fail-under",
        "1.0",
        "--stems",
        "vocals",
        "--json",
        cwd=tmp_path,
        server=prefect_server,
    )
    assert ran.code == 3, ran.stderr
    assert ran.document["exit_code"] == 3
    assert ran.document["under_gate"] == 1
    (track,) = ran.document["tracks"]
    assert sorted(path.name for path in Path(track["folder"]).iterdir()) == [
        "mixture.flac",
        "report.json",
        "vocals.flac",
    ]
