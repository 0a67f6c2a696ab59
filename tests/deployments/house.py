"""A real Prefect server, a real process worker and our deployments, all on this machine's loopback.

What runs here runs as `deployments/README.md` says, command for command.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).parents[2]
PREFECT = Path(sys.executable).with_name("prefect")
PATIENCE_S = 180.0
Answer = TypeVar("Answer")
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

JSON = {"content-type": "application/json"}

# Nobody listens there: what reaches for the network fails at once.
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class House:
    """The running server, and the folder in which its worker was started."""

    api: httpx.Client
    site: Path
    env: dict[str, str]

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """As Prefect's own client, asks again while the server's SQLite is being written to."""
        # httpx itself would send neither a lone surrogate nor a NaN.
        content = json.dumps(body)

        def answered() -> httpx.Response | None:
            answer = self.api.post(path, content=content, headers=JSON)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        return until(answered, f"the server's database, for {path}")

    def found(self, what: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The answer of one of the API's `filter` endpoints."""
        rows: list[dict[str, Any]] = self.post(f"/{what}/filter", body).raise_for_status().json()
        return rows

    def deployment(self, name: str) -> dict[str, Any]:
        return {row["name"]: row for row in self.found("deployments", {})}[name]

    def start_run(self, deployment: str, parameters: dict[str, Any]) -> httpx.Response:
        """What the form's Submit button does."""
        where = f"/deployments/{self.deployment(deployment)['id']}/create_flow_run"
        return self.post(where, {"parameters": parameters, "state": {"type": "SCHEDULED"}})

    def ended_run(self, run_id: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            run: dict[str, Any] = self.api.get(f"/flow_runs/{run_id}").raise_for_status().json()
            return run if run["state_type"] in ENDED else None

        return until(ended, f"run {run_id} to end")

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        """The artifacts of a run by their keys."""
        of_run = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        return {row["key"]: row for row in self.found("artifacts", of_run)}

    def prefect(self, *arguments: str) -> None:
        self.run(str(PREFECT), "--no-prompt", *arguments)

    def run(self, *command: str) -> None:
        """Run a command from the root of the repository, as the README does."""
        subprocess.run(
            command,
            cwd=ROOT,
            env=self.env,
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )


def until(ask: Callable[[], Answer | None], what: str) -> Answer:
    """Ask until there is an answer."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if (answer := ask()) is not None:
            return answer
        time.sleep(0.3)
    raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}")


@contextmanager
def running_house(place: Path, settings: str) -> Iterator[House]:
    """Server, pool, deployments and worker; all of it ends with this context, whatever happens.

    Args:
        place: An empty folder.
        settings: The `stemwright.yaml` that the worker finds where it is started.
    """
    port = _free_port()
    env = _environment(place / "prefect", port)
    site = place / "site"
    (site / "catalog").mkdir(parents=True)
    (site / "stemwright.yaml").write_text(settings)
    with ExitStack() as stack:
        stack.callback(_kill_what_is_left, env["PREFECT_HOME"])
        client = stack.enter_context(httpx.Client(base_url=env["PREFECT_API_URL"], timeout=60))
        house = House(client, site, env)
        stack.enter_context(_process(["server", "start"], env, place, place / "server.log"))
        until(lambda: _healthy(client), "the server to answer")
        house.prefect("work-pool", "create", "stemwright", "--type", "process")
        # The worker starts up while the deployments are made.
        worker = ["worker", "start", "--pool", "stemwright", "--limit", "2"]
        stack.enter_context(_process(worker, env, site, place / "worker.log"))
        queue = ["work-queue", "create", "catalogs", "--pool", "stemwright", "--limit", "1"]
        house.prefect(*queue)
        house.run(sys.executable, "-m", "deployments.deploy", "--all")
        yield house


def _environment(home: Path, port: int) -> dict[str, str]:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    ours |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE)
    ours |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
    return (
        ours
        | _server_env()
        | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "OMP_NUM_THREADS": "2",
        }
    )


def _server_env() -> dict[str, str]:
    """The settings that the README has everyone load."""
    lines = (ROOT / "deployments" / "server.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _healthy(client: httpx.Client) -> bool | None:
    try:
        return client.get("/health").is_success or None
    except httpx.TransportError:
        return None


@contextmanager
def _process(
    command: list[str], env: dict[str, str], cwd: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A Prefect process and all that it starts, in one group that ends together."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [PREFECT, "--no-prompt", *command],
            cwd=cwd,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    # A worker that is asked ends its flow runs; what is deaf or left over is killed.
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=20)


def _kill_what_is_left(home: str) -> None:
    """A flow run whose worker had to be killed is in no group of ours, but in our environment."""
    mark = f"PREFECT_HOME={home}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environ.read_bytes().split(b"\0"):
                os.kill(int(environ.parent.name), signal.SIGKILL)
