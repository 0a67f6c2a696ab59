"""Every command explains itself, with an example that runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke, write_excerpt

COMMANDS = ["demo", "separate", "plan", "reports", "gallery", "review", "evaluate", "doctor"]
COMMANDS += ["forget", "prune"]
COMMANDS += [f"models {name}" for name in ("list", "show", "fetch", "import", "verify")]
CHEAP = ["plan", "reports", "review", "models list", "models show", "models verify"]


def example_of(stemwright: Invoke, command: str) -> list[str]:
    """The arguments of the example in a command's help."""
    result = stemwright(*command.split(), "--help")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split("╭")[0].split())
    found = re.search(r"Example: stemwright (.+)$", text)
    assert found, text
    return shlex.split(found[1])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_is_of_the_command_and_its_options_exist(
    stemwright: Invoke, command: str
) -> None:
    example = example_of(stemwright, command)
    assert example[: len(command.split())] == command.split()
    assert stemwright(*example, "--help").exit_code == 0
    shown = stemwright(*command.split(), "--help").stdout
    for option in [word for word in example if word.startswith("--")]:
        assert option in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_speaks_json(stemwright: Invoke, command: str) -> None:
    assert "--json" in stemwright(*command.split(), "--help").stdout


@pytest.mark.parametrize("command", CHEAP)
def test_the_example_runs(
    stemwright: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    write_excerpt("costa_lenta", tmp_path / "Music/album/a.flac")
    monkeypatch.setenv("STEMWRIGHT_SEPARATION__MODEL", "embedded")
    example = [word.replace("~", str(tmp_path)) for word in example_of(stemwright, command)]
    result = stemwright(*example)
    assert result.exit_code == 0, result.output


def test_the_defaults_that_the_help_promises(
    stemwright: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = " ".join(re.sub(r"[│\n]", " ", stemwright("separate", "--help").stdout).split())
    for default in (
        "./library",
        "./stemwright.yaml if it exists",
        "htdemucs",
        "auto",
        "flac",
        "24",
    ):
        assert f"[default: {default}]" in shown
