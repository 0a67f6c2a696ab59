"""The house stands as designed: arrows one way, a quick start, and no traces of a machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
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
