"""Names whose bytes aren't UTF-8, and a locale that holds nothing but ASCII."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tasks.recording import Library
from tests.cli.conftest import SCRIPT, Invoke, document, environment, write_excerpt

ODD = os.fsdecode(b"Am\xe9lie.flac")


def test_every_argument_is_separated_and_found_again(
    tmp_path: Path, prefect_server: str, stemwright: Invoke
) -> None:
    folder = tmp_path / "Größe"
    plain = write_excerpt("glass_terminal", folder / "plain.flac", seconds=1)
    odd = write_excerpt("iron_harbour", folder / "odd.flac", seconds=1).rename(folder / ODD)
    library = folder / "library"
    common = ("--model", "embedded", "--library", str(library))
    done = subprocess.run(
        [SCRIPT, "separate", plain, odd, *common],
        env=environment() | {"PREFECT_API_URL": prefect_server, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert "Am?lie.flac" in done.stdout.decode("ascii")
    assert "2 separated, 0 failed" in done.stdout.decode("ascii")

    sources = {str(plain), f"{folder.as_uri()}/Am%E9lie.flac"}
    assert set(Library(library).tracks()["source"]) == sources
    for report in library.glob("tracks/*/*/report.json"):
        assert report.read_bytes().decode()
    # In this process names are UTF-8.
    for given in (odd, *sources, folder / "Am%E9lie.flac"):
        (track,) = document(stemwright("plan", given, *common, "--json"))["tracks"]
        assert (track["action"], track["source"] in sources) == ("already", True)
