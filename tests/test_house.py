"""The house stands as designed: arrows one way, a quick start, and no traces of a machine."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "deployments", "blocks", "tasks")
SAME_MEANING = frozenset({"separator"})
"""Names of modules in `tasks/` that mean the same wherever they stand."""
HEAVY = ("torch", "librosa", "pandas", "prefect", "yt_dlp", "av", "scipy", "demucs", "fastapi")
QUICK = (
    "tasks.contracts",
    "tasks.errors",
    "blocks",
    "blocks.settings",
    "blocks.redaction",
    "tasks.sources",
    "tasks.normalize",
    "tasks.separation",
    "tasks.validation",
    "tasks.quality",
    "tasks.recording",
    "flows.cli",
)


def test_imports_point_one_way() -> None:
    # A process of its own: in this one the linter would silence every logger for the tests to come.
    command = (Path(sys.executable).with_name("lint-imports"), "--no-cache")
    linted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@cache
def _modules() -> dict[str, Path]:
    """Every module of ours by its dotted name; a package goes by its own."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    dotted = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in dotted.items()}


@cache
def _exports(package: str) -> dict[str, str]:
    """What a package passes on when it is asked for it, by its stub: a name and where it is."""
    stub = _modules()[package].with_suffix(".pyi") if package in _modules() else ROOT
    tree = ast.parse(stub.read_text("utf-8")) if stub.is_file() else ast.Module([], [])
    return {
        alias.name: f"{package}.{statement.module or alias.name}"
        for statement in tree.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def _imported(node: ast.AST) -> Iterator[str]:
    """What a module imports, inside its functions too, but for what only type checkers see."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for statement in node.orelse:
            yield from _imported(statement)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            found = _exports(str(node.module)).get(alias.name, str(node.module))
            yield submodule if submodule in _modules() else found
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imported(child)


def _needs() -> dict[str, set[str]]:
    return {
        name: set(_imported(ast.parse(path.read_text("utf-8")))) & _modules().keys() - {name}
        for name, path in _modules().items()
    }


def test_no_module_needs_itself_on_a_detour() -> None:
    # The error names the circle.
    TopologicalSorter(_needs()).prepare()


def test_a_module_s_name_says_which_it_is() -> None:
    named: dict[str, list[str]] = defaultdict(list)
    for name in _modules():
        if name.startswith("tasks."):
            named[name.rpartition(".")[2]].append(name)
    twice = {name: found for name, found in named.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in SAME_MEANING} == {}
    assert twice.keys() >= SAME_MEANING, "a name that stands once needs no leave"


def test_every_logger_is_named_after_its_module() -> None:
    made = {
        f"{name}: {line.strip()}"
        for name, path in _modules().items()
        for line in path.read_text("utf-8").splitlines()
        if re.match(r'\w+ = logging\.getLogger\((?!f"\{__name__\}\.)', line)
    }
    assert {one for one in made if not one.endswith(": log = logging.getLogger(__name__)")} == set()


@pytest.mark.parametrize("package", ["tasks", "flows", "blocks"])
def test_the_generic_names_are_ours(package: str) -> None:
    module = __import__(package)
    assert Path(str(module.__file__)) == ROOT / package / "__init__.py"


def test_start_up_loads_nothing_heavy() -> None:
    program = (
        "import importlib, json, sys\n"
        "quick, heavy = json.loads(sys.argv[1])\n"
        "loaded = {}\n"
        "for name in quick:\n"
        "    before = set(sys.modules)\n"
        "    importlib.import_module(name)\n"
        "    loaded[name] = sorted(set(heavy) & (set(sys.modules) - before))\n"
        "print(json.dumps(loaded))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps([QUICK, HEAVY])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: [] for name in QUICK}


def _our_files() -> list[Path]:
    git = shutil.which("git")
    listed = git and subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if not listed or listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return ""


def _registry_hosts() -> set[str]:
    config = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    urls = re.findall(r"https?://[^\s'\"]+", config.stdout)
    public = {"pypi" + ".org", "files.python" + "hosted.org"}
    return public | {host for url in urls if (host := urlsplit(url).hostname)}


def test_no_file_names_a_package_registry() -> None:
    hosts = re.compile("|".join(re.escape(host) for host in sorted(_registry_hosts())))
    assert [path.name for path in _our_files() if hosts.search(_text(path))] == []


def test_no_file_holds_a_path_of_a_machine() -> None:
    places = [str(Path.home()), sys.prefix]
    if len(ROOT.parts) > 2:  # an image's own /app may well stand in its Dockerfile
        places.append(str(ROOT))
    machine = re.compile(
        "|".join(re.escape(place) + r"(?=[/\s'\"]|$)" for place in places if place != "/")
        + "|/"
        + r"work/(?:main|shared|venv)\b"
    )
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in _our_files()
        if path.name != "Dockerfile" and (match := machine.search(_text(path)))
    }
    assert found == {}
