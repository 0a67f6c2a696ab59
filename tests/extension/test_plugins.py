"""A module of somebody's own reaches commands and runs by its name; no package is touched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import SettingsError
from tasks.plugins import VARIABLE, load_plugins
from tasks.sources.kinds import KINDS
from tests.cli.conftest import Invoke, document, stemwright

__all__ = ["stemwright"]

TAPE = """
from tasks.sources import Row, Source, register


@register
class Tape(Source):
    name = "tape"

    def matches(self, source):
        return source.startswith("tape://")

    def needs_network(self, source):
        return False

    def expand(self, source):
        for side in "AB":
            yield Row(f"{source}/{side}", fields={"title": f"Side {side}"})
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "our_tapes.py").write_text(TAPE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "our_tapes")
    yield "our_tapes"
    KINDS.pop("tape", None)
    sys.modules.pop("our_tapes", None)


def test_a_command_knows_what_a_plugin_adds(
    plugin: str, tmp_path: Path, stemwright: Invoke
) -> None:
    asked = ("plan", "tape://1", "--model", "embedded", "--library", tmp_path / "library", "--json")
    tracks = document(stemwright(*asked))["tracks"]
    assert [track["label"] for track in tracks] == ["Side A", "Side B"]


def test_an_installed_distribution_names_its_own(
    plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    info = tmp_path / "tapes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tapes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[stemwright]\ntapes = our_tapes\n")
    assert plugin in load_plugins()
    assert "tape" in KINDS


def test_one_that_cannot_be_imported_is_named(
    monkeypatch: pytest.MonkeyPatch, stemwright: Invoke
) -> None:
    monkeypatch.setenv(VARIABLE, "nobodys_module")
    with pytest.raises(SettingsError, match="the plugin nobodys_module can't be imported"):
        load_plugins()
    result = stemwright("models", "list")
    assert result.exit_code == 2
    assert "nobodys_module" in result.stderr
