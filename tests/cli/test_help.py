"""Every command explains itself, with an example that runs."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tests.cli.conftest import Invoke, write_excerpt

COMMANDS = ["demo", "separate", "plan", "reports", "gallery", "review", "evaluate", "doctor"]
COMMANDS += ["export", "forget", "prune", "verify"]
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


@pytest.mark.parametrize("command", ["", *COMMANDS, "models", "endpoint"])
def test_at_80_columns_nothing_is_broken_off(
    stemwright: Invoke, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """An example is there to be copied; a choice that goes on in the next line is no word."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = stemwright(*command.split(), "--help").stdout.splitlines()
    for line in lines:
        assert not re.search(r"\w… *│$", line), line
        assert not re.search(r"\[[^\]]*\|[^\]]*$", line.rstrip("│ ")), line
    words = [line.rstrip() for line in lines[: lines.index(next(filter(is_panel, lines)))]]
    for line, following in itertools.pairwise(words):
        assert not line or not following or len(f"{line} {following.split()[0]}") >= 80, line
    examples = [at for at, line in enumerate(lines) if "Example: " in line]
    assert all(not lines[at + 1].strip() for at in examples)


def is_panel(line: str) -> bool:
    return line.startswith("╭")


@pytest.mark.parametrize("command", ["separate", "plan"])
def test_several_sources_may_be_given(stemwright: Invoke, command: str) -> None:
    shown = stemwright(command, "--help").stdout
    assert f"Usage: stemwright {command} [OPTIONS] SOURCE..." in shown


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("sep", ["separate"]),
        ("separate --model emb", ["embedded"]),
        ("models show emb", ["embedded"]),
        ("separate --provider local_", ["local_gpu", "local_cpu"]),
        ("reports --verdict ", ["pass", "review", "fail"]),
        # Nothing: the shell completes a path.
        ("separate ./mus", []),
    ],
)
def test_a_shell_completes_words(typed: str, completed: list[str]) -> None:
    asked = {
        "_STEMWRIGHT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"stemwright {typed}",
        "COMP_CWORD": str(len(typed.split(" "))),
    }
    result = CliRunner().invoke(app, prog_name="stemwright", env=asked)
    assert result.stdout.split() == completed


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
