"""The Dockerfile and the compose file name only what there is. No image is built here."""

from __future__ import annotations

import fnmatch
import inspect
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from deployments.endpoint.keys import VARIABLE
from deployments.endpoint.server import _OPEN_ANSWERS_S
from deployments.endpoint.service import _LAST_SEGMENT_S
from flows.cli import app
from flows.cli.endpoint import endpoint
from tests.endpoint.house import Client

ROOT = Path(__file__).parents[2]
INHERITED = ("endpoint", "endpoint-gpu")


def options() -> set[str]:
    command = typer.main.get_command(app).commands["endpoint"]  # type: ignore[attr-defined]
    return {name for parameter in command.params for name in parameter.opts}


def default_of(parameter: str) -> Any:
    return inspect.signature(endpoint).parameters[parameter].default


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "deployments/Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = [line.strip().split(maxsplit=1) for line in lines]
    return [(word, rest) for word, rest in pairs]


def values(word: str) -> list[str]:
    return [rest for each, rest in instructions() if each == word]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    composed = yaml.safe_load((ROOT / "deployments/compose.yaml").read_text())
    assert set(composed["services"]) == set(INHERITED)
    for volume in ("data", "models"):
        assert volume in composed["volumes"]
    found: dict[str, Any] = composed["services"]
    return found


@pytest.mark.parametrize("name", INHERITED)
def test_the_command_of_the_compose_file_has_options_that_exist(
    services: dict[str, Any], name: str
) -> None:
    first, *rest = services[name]["command"]
    assert first == "endpoint"
    given = dict(word.split("=", 1) for word in rest)
    assert set(given) <= options()
    # Nobody outside the container could reach its loopback.
    assert given["--host"] == "0.0.0.0"
    container_port = services[name]["ports"][0].rsplit(":", 1)[1]
    assert container_port == given["--port"] == str(default_of("port")) == values("EXPOSE")[0]


@pytest.mark.parametrize("name", INHERITED)
def test_the_container_is_given_the_time_to_end_in_order(
    services: dict[str, Any], name: str
) -> None:
    given = dict(word.split("=", 1) for word in services[name]["command"][1:])
    allowed = int(services[name]["stop_grace_period"].removesuffix("s"))
    assert allowed > float(given["--grace-seconds"]) + _LAST_SEGMENT_S + _OPEN_ANSWERS_S
    assert values("STOPSIGNAL") == ["SIGTERM"]


@pytest.mark.parametrize("name", INHERITED)
def test_keys_are_asked_for_and_volumes_are_where_the_image_writes(
    services: dict[str, Any], name: str
) -> None:
    service = services[name]
    assert service["environment"][VARIABLE].startswith(f"${{{VARIABLE}:?")
    mounted = {volume.split(":")[1] for volume in service["volumes"]}
    declared = {folder for rest in values("VOLUME") for folder in json.loads(rest)}
    environment = dict(word.split("=", 1) for word in shlex.split(values("ENV")[-1]))
    assert (
        mounted == declared == {environment["STEMWRIGHT_STATE"], environment["STEMWRIGHT_MODELS"]}
    )
    assert service["read_only"] is True


def test_the_build_is_of_this_dockerfile_and_its_arguments(services: dict[str, Any]) -> None:
    arguments = {rest.split("=")[0] for rest in values("ARG")}
    for name in INHERITED:
        build = services[name]["build"]
        assert (ROOT / "deployments" / build["context"] / build["dockerfile"]).is_file()
        assert set(build.get("args", {})) <= arguments
    assert services["endpoint-gpu"]["profiles"] == ["gpu"]


def test_the_image_runs_without_root_from_the_pinned_versions() -> None:
    assert values("FROM")[0].startswith("python:3.11-slim")
    words = [word for word, _ in instructions()]
    assert values("USER") == ["stemwright"]
    assert words.index("USER") < words.index("ENTRYPOINT")
    installs = [rest for rest in values("RUN") if "pip install" in rest]
    assert len(installs) == 2
    assert all("-c constraints.txt" in rest for rest in installs)
    assert json.loads(values("ENTRYPOINT")[0]) == ["stemwright"]
    first, *rest = json.loads(values("CMD")[0])
    assert first == "endpoint"
    assert {word for word in rest if word.startswith("--")} <= options()


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line.removeprefix("!") for line in lines if line.startswith("!")]
    copied = [rest.split()[:-1] for rest in values("COPY") if not rest.startswith("--from")]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in sent), source
    # Whatever setuptools looks for must be there, or the image lacks a package.
    project = (ROOT / "pyproject.toml").read_text()
    found = re.search(r"^include = \[(.*)\]$", project, re.MULTILINE)
    assert found
    packages = {word.strip(' "*') for word in found[1].split(",")}
    assert packages <= {source for sources in copied for source in sources}


def test_the_health_check_asks_what_the_endpoint_answers(client: Client) -> None:
    check = next(rest for word, rest in instructions() if word == "HEALTHCHECK")
    script = json.loads(check[check.index("[") :])[-1]
    url = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", script)
    assert url
    assert url[1] == str(default_of("port"))
    assert client.http.get(url[2]).status_code == 200
    compile(script, "HEALTHCHECK", "exec")
