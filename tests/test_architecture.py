"""ARCHITECTURE.md says how a further piece is added: briefly, and with names that exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
HOMES = {
    "A kind of source": ("tasks.sources", "Source", "Fetched", "register"),
    "A cloud service": ("tasks.separation.cloud.providers.base", "CloudProvider", "ProviderJob"),
    "A quality measure": ("tasks.quality.measure", "Measure", "Measured", "register"),
    "A column": ("tasks.columns", "Column", "register"),
    "A family of models": ("tasks.separation.models.family", "ModelFamily", "KnownModel"),
}


def snippets() -> dict[str, str]:
    """The code under each bold heading of "To add something"."""
    part = TEXT.split("## To add something")[1].split("## Words")[0]
    found = re.findall(r"\*\*(.+?)\*\*.*?```python\n(.*?)```", part, flags=re.DOTALL)
    return dict(found)


@pytest.mark.parametrize("what", HOMES)
def test_it_shows_each_in_ten_lines_of_names_that_exist(what: str) -> None:
    (code,) = [code for heading, code in snippets().items() if heading.startswith(what)]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    home, *names = HOMES[what]
    for name in names:
        assert re.search(rf"\b{name}\b", code), f"{name} isn't shown"
        assert hasattr(import_module(home), name)


def test_every_folder_and_file_that_it_names_is_there() -> None:
    named = {name.rstrip("/.") for name in re.findall(r"`((?:tasks|tests|flows)/[\w/.]+)`", TEXT)}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
