"""Prefect beside a run: a server of its own that nothing of the user's disturbs, or the user's."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from flows.cli.own_prefect import homes, own_server
from tasks.errors import SettingsError
from tests.cli.conftest import SCRIPT, Done, environment

PATIENCE_S = 180.0


def write_foreign_database(home: Path) -> bytes:
    """A database that another version of Prefect migrated."""
    home.mkdir()
    with closing(sqlite3.connect(home / "prefect.db")) as rows, rows:
        rows.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        rows.execute("INSERT INTO alembic_version VALUES ('deadbeef0000')")
    return (home / "prefect.db").read_bytes()


@pytest.fixture(autouse=True)
def _home_of_its_own(_own_state: None) -> None:
    (Path(os.environ["STEMWRIGHT_STATE"]) / "prefect").unlink()


@pytest.fixture(scope="module")
def nobody() -> str:
    """The URL of a port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/api"


def separate(folder: Path, **variables: str) -> Done:
    """A run over a catalog of one file that isn't there."""
    (folder / "songs.csv").write_text("source\nnone.flac\n")
    return script(folder, "separate", "songs.csv", "--model", "embedded", **variables)


def script(folder: Path, *args: str, **variables: str) -> Done:
    """The console script with the Prefect home `folder/prefect`."""
    done = subprocess.run(
        [SCRIPT, *args],
        cwd=folder,
        env=environment() | {"PREFECT_HOME": str(folder / "prefect")} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_foreign_database_of_the_users_is_left_alone_and_nothing_grows(tmp_path: Path) -> None:
    before = write_foreign_database(tmp_path / "prefect")
    done = separate(tmp_path)
    assert done.code == 1, done.stderr
    assert "none.flac: failed in ingest" in done.stderr
    assert (tmp_path / "prefect/prefect.db").read_bytes() == before
    (seed,) = homes().iterdir()
    assert seed.stat().st_size < 3_000_000


def test_servers_side_by_side_have_homes_of_their_own_and_leave_none() -> None:
    answered: list[int] = []
    together = threading.Barrier(2)

    def run() -> None:
        with own_server() as server:
            url = server.ready(PATIENCE_S)
            together.wait(PATIENCE_S)
            answered.append(httpx.get(f"{url}/health").status_code)
            together.wait(PATIENCE_S)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answered == [200, 200]
    assert not (homes() / "running").exists()


def test_what_a_killed_run_left_is_cleared_and_its_server_ends(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [SCRIPT, "separate", "-", "--model", "embedded"],
        cwd=tmp_path,
        env=environment() | {"PREFECT_HOME": str(tmp_path / "prefect")},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + PATIENCE_S
    while not (logs := [*(homes() / "running").glob("*/server.log")]):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(0.5)  # for its guard
    process.kill()
    process.communicate()
    with own_server():
        assert not logs[0].parent.exists()
    while servers_in(logs[0].parent):
        assert time.monotonic() < until
        time.sleep(0.02)


def servers_in(home: Path) -> list[str]:
    mark = f"PREFECT_HOME={home}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes():
                found.append(place.name)
        except OSError:
            continue
    return found


def test_a_damaged_seed_is_made_anew() -> None:
    with own_server() as server:
        server.ready(PATIENCE_S)
        (seed,) = homes().glob("seed-*")
    seed.write_bytes(b"SQLite format 3\0 and then nothing of it")
    with own_server() as server:
        url = server.ready(PATIENCE_S)
        assert httpx.get(f"{url}/health").status_code == 200
    assert seed.stat().st_size > 100_000


def test_a_server_that_ends_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uvicorn.py").write_text("raise RuntimeError('the port is cursed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = "ended with code 1: RuntimeError: the port is cursed"
    with pytest.raises(SettingsError, match=said), own_server() as server:
        server.ready(PATIENCE_S)
    assert not (homes() / "running").exists()


def test_a_server_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uvicorn.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        pytest.raises(SettingsError, match="within 1 s: it said nothing") as caught,
        own_server() as server,
    ):
        server.ready(1.0)
    assert "EPHEMERAL_STARTUP_TIMEOUT_SECONDS" in caught.value.remedy


def test_a_state_folder_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEMWRIGHT_STATE", str(tmp_path / "file/state"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert homes().parent.parent == tmp_path


def test_a_server_that_the_environment_names_and_that_is_away(tmp_path: Path, nobody: str) -> None:
    done = separate(tmp_path, PREFECT_API_URL=nobody)
    assert done.code == 2, done.stderr
    said = " ".join(done.stderr.split())
    assert nobody in said
    assert "unset PREFECT_API_URL" in said
    assert "Traceback" not in said


def test_a_server_that_a_profile_names_and_that_is_away(tmp_path: Path, nobody: str) -> None:
    (tmp_path / "prefect").mkdir()
    path = tmp_path / "prefect/profiles.toml"
    path.write_text(f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{nobody}"\n')
    done = separate(tmp_path)
    assert done.code == 2, done.stderr
    said = " ".join(done.stderr.split())
    assert f'the profile "mine" in {path}' in said
    assert "`prefect profile use ephemeral`" in said


BROKEN = [
    ("profiles.toml", "active = [broken", "profiles in"),
    (
        "profiles.toml",
        'active = "m"\n[profiles.m]\nPREFECT_CLIENT_MAX_RETRIES = "x"',
        "max_retries",
    ),
    ("logging.yml", "version: 1\nhandlers: {console: {class: no.Handler}}", "logging settings"),
]


@pytest.mark.parametrize(("name", "text", "named"), BROKEN, ids=[named for *_, named in BROKEN])
def test_broken_settings_of_prefects_are_named(
    tmp_path: Path, name: str, text: str, named: str
) -> None:
    (tmp_path / "prefect").mkdir()
    path = tmp_path / "prefect" / name
    path.write_text(text)
    done = separate(tmp_path)
    assert done.code == 2, done.stderr
    said = " ".join(done.stderr.split())
    assert named in said
    assert str(path) in said
    assert "Traceback" not in said


def test_doctor_looks_at_the_home_and_at_the_profiles(tmp_path: Path) -> None:
    """As a process: this one's Prefect would keep the home that it was imported with."""
    (tmp_path / "prefect").mkdir()
    well = prefect_in_doctor(tmp_path)
    assert well["state"] == "ok"
    assert str(homes()) in well["text"]
    (tmp_path / "prefect/profiles.toml").write_text("active = [broken")
    broken = prefect_in_doctor(tmp_path)
    assert broken["state"] == "problem"
    assert str(tmp_path / "prefect/profiles.toml") in broken["text"]
    assert broken["fix"]


def prefect_in_doctor(folder: Path) -> dict[str, str]:
    done = script(folder, "doctor", "--model", "embedded", "--json")
    (found,) = [one for one in done.document["findings"] if one["check"] == "Prefect"]
    return dict(found)
