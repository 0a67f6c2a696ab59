"""Who gets in, and what the endpoint refuses to start with."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deployments.endpoint.folder import DataFolder
from deployments.endpoint.keys import ANYBODY, VARIABLE, Keys
from deployments.endpoint.settings import check_public_url, is_loopback
from flows.cli import app
from tasks.errors import SettingsError
from tests.endpoint.conftest import Runner
from tests.endpoint.house import Client, audio, bearer

FIRST, SECOND = "first-secret-key", "second-secret-key"


def owner(keys: Keys, key: str) -> str | None:
    return keys.owner(bearer(key)["authorization"])


def write_keys(file: Path, text: str, step: int) -> None:
    file.write_text(text)
    # Two writes within a tick of the clock would look like one.
    os.utime(file, (step, step))


def test_keys_from_the_environment_and_a_file_are_all_good(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    write_keys(file, f"# the studio's\n\n{SECOND}\n", 1)
    keys = Keys.from_environment({VARIABLE: f" {FIRST} , third-secret-key,"}, file)
    assert len(keys) == 3
    owners = {owner(keys, key) for key in (FIRST, SECOND, "third-secret-key")}
    assert len(owners) == 3
    assert None not in owners
    assert owner(keys, "# the studio's") is None
    assert FIRST not in repr(keys) + str(vars(keys))


def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    write_keys(file, FIRST, 1)
    keys = Keys((), file)
    before = owner(keys, FIRST)
    write_keys(file, f"{SECOND}\n{FIRST}\n", 2)
    assert owner(keys, SECOND)
    assert owner(keys, FIRST) == before
    write_keys(file, SECOND, 3)
    assert owner(keys, FIRST) is None


def test_an_emptied_file_lets_nobody_in_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    write_keys(file, FIRST, 1)
    keys = Keys((), file)
    write_keys(file, "short\n", 2)
    assert owner(keys, FIRST)
    file.unlink()
    assert owner(keys, FIRST)
    write_keys(file, "# none left\n", 3)
    assert keys.required
    assert owner(keys, FIRST) is None


@pytest.mark.parametrize("key", ["brief", "with a space in it", "übersetzung-key"])
def test_keys_that_are_none_are_refused_unquoted(key: str) -> None:
    with pytest.raises(SettingsError, match="shorter than 8 characters") as refused:
        Keys((key,))
    assert key not in str(refused.value)


def test_only_an_endpoint_without_keys_lets_anybody_in() -> None:
    assert Keys().owner(None) == ANYBODY
    assert Keys((FIRST,)).owner(None) is None
    assert Keys((FIRST,)).owner(f"bearer  {FIRST}") is not None


def test_a_key_added_while_it_runs_gets_in(start: Runner, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    write_keys(file, FIRST, 1)
    with start(keys=Keys((), file)) as endpoint:
        newcomer = Client(endpoint.client.http, SECOND)
        assert newcomer.submit(audio(0.2)).status_code == 401
        write_keys(file, f"{FIRST}\n{SECOND}\n", 2)
        assert newcomer.submit(audio(0.2)).status_code == 202


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("", False)],
)
def test_what_is_loopback(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here


@pytest.mark.parametrize(
    "url", ["ftp://x", "gpu.example.org", "https://u:p@x/v1", "https://x/?k=1"]
)
def test_a_public_url_is_an_address_and_no_more(url: str) -> None:
    with pytest.raises(SettingsError):
        check_public_url(url)
    assert check_public_url("https://gpu.example.org/v1/") == "https://gpu.example.org/v1"


def endpoint(*options: object, **environ: str) -> Result:
    return CliRunner().invoke(app, ["endpoint", *map(str, options)], env=environ)


def test_it_does_not_serve_strangers_without_a_key() -> None:
    refused = endpoint("--host", "0.0.0.0", "--model", "embedded")
    assert refused.exit_code == 2
    assert "without a key the endpoint listens on the loopback only" in refused.output
    assert VARIABLE in refused.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--keys-file", "nowhere.txt"), "can't be read"),
        (("--public-url", "gpu.example.org"), "no http(s) address"),
        (("--provider", "cloud"), "an endpoint separates on its own hardware"),
        (("--model", "tinny", "--offline"), "no model named 'tinny'"),
        (("--host", "no.such.host.invalid"), "has no address"),
        (("--port", "99999"), "in the range 0<=x<=65535"),
        (("--queue", "0"), "in the range x>=1"),
    ],
)
def test_settings_that_cannot_work_end_it_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = endpoint("--model", "embedded", *options)
    assert refused.exit_code == 2, refused.output
    assert said in " ".join(refused.output.split())


def test_a_taken_port_or_data_folder_ends_it_with_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = endpoint("--model", "embedded", "--port", port, "--data", tmp_path)
    assert refused.exit_code == 2
    assert f"can't listen on 127.0.0.1, port {port}" in refused.output
    owner_of_it = DataFolder(tmp_path)
    refused = endpoint("--model", "embedded", "--port", "0", "--data", tmp_path)
    owner_of_it.close()
    assert refused.exit_code == 2
    assert "another endpoint uses the data folder" in refused.output
    (tmp_path / "file").touch()
    refused = endpoint("--model", "embedded", "--port", "0", "--data", tmp_path / "file")
    assert refused.exit_code == 2
    assert "can't be used" in refused.output


def test_the_help_has_an_example_whose_options_exist() -> None:
    shown = CliRunner().invoke(app, ["endpoint", "--help"], env={"COLUMNS": "200"}).output
    example = next(line for line in shown.splitlines() if "Example:" in line)
    for option in (word for word in example.split() if word.startswith("--")):
        assert shown.count(option) >= 2
