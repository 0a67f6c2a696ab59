"""A Prefect server for one run. Its home is its own: no database, profile or setting of the
user's Prefect, whatever version made them, has a part in it, and nothing of it stays."""

from __future__ import annotations

import http.client
import os
import re
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from flows.cli.console import plain
from tasks.errors import SettingsError

PATIENCE = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    PATIENCE: "20",
    # One database write for many task runs, not one each.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
}

_OURS = {
    "PREFECT_UI_ENABLED": "0",
    # Seconds that nobody uses: a run saves no Blocks.
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    # Its services work through what nobody will look at.
    "PREFECT__SERVER_WEBSERVER_ONLY": "1",
    "PREFECT__SERVER_FINAL": "1",
}
# What its imports make lives as long as it does: to look for garbage in it is a fifth of its start.
_START = """
import gc
gc.disable()
import uvicorn, prefect.server.api.server
gc.freeze()
gc.enable()
uvicorn.main()
"""
_HOST = "127.0.0.1"
_PAUSE_S = 0.05
_ERROR = re.compile(r"[\w.]*(Error|Exception)\b")


def prepare_prefect() -> None:
    """Prefect's settings for an embedded run; whatever the user set stays. Before its import."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # Prefect's client would ask a proxy for the server on this machine.
    passed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if "*" not in passed and _HOST not in passed:
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{passed},{_HOST}".lstrip(",")


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """Start a server, without waiting for it, and leave nothing of it behind."""
    from tasks.recording import scratch

    root = homes()
    scratch.sweep(root / "running")
    with scratch.held(root / "running", f"{os.getpid()}-{secrets.token_hex(4)}") as home:
        seed = root / f"seed-{_version()}.sqlite3"
        with _running(home, seed) as server:
            yield server


def homes() -> Path:
    """Return the folder of the servers' homes: in the state folder, or where that can't be
    written, in this machine's scratch."""
    from tasks.recording.scratch import temporary_root
    from tasks.separation.state import state_folder

    with suppress(OSError):
        wanted = state_folder().absolute() / "prefect"
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(wanted, os.W_OK | os.X_OK):
            return wanted
    return temporary_root().with_name("prefect")


class OwnServer:
    """The process, and how to tell that it answers."""

    def __init__(self, home: Path, seed: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self._url = f"http://{_HOST}:{port}/api"
        self._home = home
        self._seed = seed
        self._port = port
        self._process = process
        self._since = time.monotonic()

    def ready(self, patience_s: float) -> str:
        """Return its API's URL once it answers.

        Raises:
            SettingsError: It ended, or took longer than `patience_s` seconds since its start; with
                what it said, and what to do.
        """
        try:
            self._wait(patience_s)
        except SettingsError:
            # Whatever it was, the next one begins without what this one began with.
            self._seed.unlink(missing_ok=True)
            raise
        _keep_seed(self._home, self._seed)
        return self._url

    def _wait(self, patience_s: float) -> None:
        while not self._answers():
            if (code := self._process.poll()) is not None:
                remedy = (
                    "`stemwright doctor` looks at what it needs; with `prefect server start` and "
                    "PREFECT_API_URL a run does without it."
                )
                raise self._fault(f"ended with code {code}", remedy)
            if time.monotonic() - self._since > patience_s:
                remedy = f"On a slow or busy machine set {PATIENCE} to more."
                raise self._fault(f"didn't answer within {patience_s:.0f} s", remedy)
            time.sleep(_PAUSE_S)

    def _answers(self) -> bool:
        asking = http.client.HTTPConnection(_HOST, self._port, timeout=1.0)
        try:
            asking.request("GET", "/api/health")
            return asking.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            asking.close()

    def _fault(self, how: str, remedy: str) -> SettingsError:
        return SettingsError(f"Prefect's server for this run {how}: {self._said()}", remedy=remedy)

    def _said(self) -> str:
        """The last error of its log, or the last line."""
        text = (self._home / "server.log").read_text(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if _ERROR.match(line)]
        return plain((errors or lines or ["it said nothing."])[-1])[:400]


@contextmanager
def _running(home: Path, seed: Path) -> Iterator[OwnServer]:
    _sow(seed, home / "prefect.db")
    # It listens before it is started, so that no other program can have the port in between.
    with closing(socket.create_server((_HOST, 0))) as door, (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _START, "--factory"),
                *("prefect.server.api.server:create_app", "--fd", str(door.fileno())),
                *("--log-level", "error", "--lifespan", "on"),
            ],
            # Not the user's folder, which may be gone, or hold settings or modules of such names.
            cwd=home,
            env=_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(door.fileno(),),
            # Ctrl-C goes to every process of a terminal's job, but the run needs the server to
            # come to its end in good order.
            start_new_session=True,
        )
        port = door.getsockname()[1]
    try:
        with _ended_with_us(process):
            yield OwnServer(home, seed, port, process)
    finally:
        # Nobody reads what it would still write.
        process.kill()
        process.wait()


def _environment(home: Path) -> dict[str, str]:
    theirs = {name: value for name, value in os.environ.items() if "PREFECT_" not in name.upper()}
    quiet = {name: os.environ.get(name, value) for name, value in QUIET.items()}
    return theirs | quiet | _OURS | {"PREFECT_HOME": str(home)}


@contextmanager
def _ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whoever kills this process leaves nobody to stop the server, so a guard does: a shell that
    waits for the end of its input, which the kernel closes however this process ends."""
    guard = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill -9 "$0" 2>/dev/null', str(process.pid)],
        cwd="/",
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()


def _version() -> str:
    from importlib.metadata import version

    return version("prefect")


def _sow(seed: Path, database: Path) -> None:
    """Begin with the seed, if there is one and it is whole."""
    try:
        shutil.copyfile(seed, database)
        with closing(sqlite3.connect(database)) as rows:
            if rows.execute("PRAGMA quick_check").fetchone() == ("ok",):
                return
    except FileNotFoundError:
        return
    except (OSError, sqlite3.Error):
        pass
    database.unlink(missing_ok=True)
    seed.unlink(missing_ok=True)


def _keep_seed(home: Path, seed: Path) -> None:
    """Keep the database as it is before the run: to make its tables anew takes seconds."""
    if seed.exists():
        return
    made = home / "seed"
    with suppress(OSError, sqlite3.Error):
        for old in seed.parent.glob("seed-*.sqlite3"):
            old.unlink()
        with (
            closing(sqlite3.connect(home / "prefect.db")) as grown,
            closing(sqlite3.connect(made)) as copy,
        ):
            grown.backup(copy)
        made.replace(seed)
