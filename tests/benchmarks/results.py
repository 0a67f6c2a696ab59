"""Benchmarks print a table and keep it beside them, with the machine it was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """The processor and what of it may be used, without the host's name."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def use_cores(count: int) -> None:
    """Leave this process and its children the first so many of the cores that it may use."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def write_result(name: str, table: str) -> None:
    """Print a table and write it to `results/NAME.md`."""
    RESULTS.mkdir(exist_ok=True)
    text = f"{table}\n\nMeasured on: {machine()}.\n"
    (RESULTS / f"{name}.md").write_text(f"# {name.replace('_', ' ')}\n\n{text}")
    print(text)
