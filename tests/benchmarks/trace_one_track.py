"""What one track passes in a run: `python -m tests.benchmarks.trace_one_track`.

Takes one short track through `separate_catalog` with the embedded model and prints how many
distinct functions and files of ours it passed, and how many frames of ours there were at most
between the thread that drives it and the network's own forward pass.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from flows.cli.embedded import prepare_prefect

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(f"{ROOT / name}{os.sep}" for name in ("flows", "tasks", "blocks", "deployments"))


class Tracer:
    """Notes every call of a function of ours, in every thread."""

    def __init__(self) -> None:
        self.codes: set[CodeType] = set()
        self.deepest = 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        # Not the bodies of modules and classes, nor lambdas and comprehensions.
        is_function = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
        if is_function and code.co_filename.startswith(OURS):
            self.codes.add(code)
        if code.co_name == "forward":
            self.deepest = max(self.deepest, _frames_of_ours(frame))


def _frames_of_ours(frame: FrameType | None) -> int:
    """Frames of ours above one, up to the one that drives the track's batch."""
    names: list[str] = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(OURS):
            names.append(frame.f_code.co_name)
        frame = frame.f_back
    return len(names) if "_drive" in names else 0


def main() -> None:
    prepare_prefect()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PREFECT_HOME"] = f"{scratch}/prefect"
        tracer = trace(Path(scratch))
    functions = {(code.co_filename, code.co_firstlineno, code.co_name) for code in tracer.codes}
    print(f"distinct functions of ours: {len(functions)}")
    print(f"files of ours: {len({file for file, _, _ in functions})}")
    print(f"frames of ours from the driving thread to the forward pass: {tracer.deepest}")


def trace(folder: Path) -> Tracer:
    """Run one track and return what was noted."""
    from flows.parameters import CatalogSources, RunControl, Separation
    from flows.separate_catalog import separate_catalog

    piece = ROOT / "tasks" / "sources" / "bundled" / "costa_lenta" / "mixture.flac"
    separation = Separation(library=str(folder / "library"), model="embedded", provider="local_cpu")
    tracer = Tracer()
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    try:
        separate_catalog(
            CatalogSources(sources=[str(piece)]), separation, RunControl(jobs=1, offline=True)
        )
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return tracer


if __name__ == "__main__":
    main()
