"""Runs of the real flows on real, short audio, and what can be asked of them afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, State, TaskRun

from flows.parameters import CatalogSources, RunControl, Separation, TrackSource
from flows.runner.progress import followed_by
from flows.runner.summary import RunSummary
from flows.separate_catalog import separate_catalog
from flows.separate_track import separate_track
from tasks.contracts import TrackReport
from tasks.events import Event, RunStarted, StageEntered, TrackEnded, TrackStarted
from tasks.run_context import TrackState

RATE = 44_100
STAGES = ("ingest", "normalize", "separate", "validate", "score", "record")


def write_track(
    path: Path,
    seed: int = 0,
    *,
    seconds: float = 1.0,
    rate: int = RATE,
    channels: int = 2,
    **tags: str,
) -> Path:
    """A short chord with some noise in it, another one for each seed."""
    t = np.arange(int(seconds * rate)) / rate
    draw = np.random.default_rng(seed)
    chord = sum(0.1 * np.sin(2 * np.pi * hz * t) for hz in draw.uniform(100, 1500, 4))
    samples = np.repeat(np.asarray(chord)[:, None], channels, axis=1)
    samples += draw.normal(0, 0.02, samples.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    if tags:
        tag(path, **tags)
    return path


def tag(path: Path, **tags: str) -> None:
    """Write tags into a FLAC file."""
    from mutagen.flac import FLAC

    file: Any = FLAC(path)  # type: ignore[no-untyped-call]
    for name, value in tags.items():
        file[name] = value
    file.save()


def write_config(path: Path, models_dir: Path, **sections: dict[str, Any]) -> Path:
    """Settings for quick runs: the tiny model on the CPU, hardly a wait before a retry.

    What the tiny model makes doesn't sum to the mixture, so the residual is let through.
    """
    settings: dict[str, Any] = {
        "engine": {"provider": "local_cpu", "models_dir": str(models_dir)},
        "separation": {"model": "tiny"},
        "completeness": {"max_residual_db": 100.0},
        "ingest": {
            "requests_per_second_per_host": 500.0,
            "max_retries": 0,
            "allow_networks": ["127.0.0.0/8"],
        },
        "run": {"retry_delay_seconds": 0.01, "window": 2},
    }
    for name, keys in sections.items():
        settings[name] = settings.get(name, {}) | keys
    path.write_text(yaml.safe_dump(settings))
    return path


@dataclass
class Diary:
    """A listener that writes down what happened to which track, and when."""

    entries: list[tuple[str, str, float]] = field(default_factory=list)
    total: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _note(self, what: str, track: TrackState) -> None:
        with self._lock:
            self.entries.append((what, Path(track.ref.source).name, time.monotonic()))

    def __call__(self, event: Event, /) -> None:
        match event:
            case RunStarted(total):
                self.total = total
            case TrackStarted(track):
                self._note("started", track)
            case StageEntered(track, stage):
                self._note(stage, track)
            case TrackEnded(track):
                self._note("ended", track)

    def of(self, name: str) -> list[str]:
        """What happened to one track, in order."""
        return [what for what, whose, _ in self.entries if whose == name]

    def count(self, what: str) -> int:
        return sum(entry[0] == what for entry in self.entries)


@dataclass
class Ran:
    """A flow run that has ended."""

    state: State[RunSummary]
    summary: RunSummary
    diary: Diary
    library: Path

    def report(self, name: str) -> TrackReport:
        """The report of the track whose source has this file name."""
        line = next(line for line in self.summary.tracks if Path(line.source).name == name)
        return report_in(Path(str(line.folder)))

    def failure_of(self, name: str) -> Any:
        return next(f for f in self.summary.failures if Path(f.source).name == name)

    @property
    def flow_run(self) -> FlowRun:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(self.state.state_details.flow_run_id)  # type: ignore[arg-type]

    def task_runs(self, expected: int) -> list[TaskRun]:
        """The task runs that the server has recorded; it does so some time after they end."""
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[self.flow_run.id]))
        until = time.monotonic() + 60
        with get_client(sync_client=True) as client:
            while True:
                found = client.read_task_runs(flow_run_filter=mine)
                ended = [run for run in found if run.state and run.state.is_final()]
                if len(ended) >= expected or time.monotonic() > until:
                    return ended
                time.sleep(0.2)

    def artifacts(self) -> list[Artifact]:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self.flow_run.id]))
        with get_client(sync_client=True) as client:
            return client.read_artifacts(artifact_filter=wanted)


def report_in(folder: Path) -> TrackReport:
    return TrackReport.model_validate_json((folder / "report.json").read_text())


def run_catalog(
    sources: Sequence[Path | str],
    library: Path,
    config: Path,
    *,
    limit: int = 0,
    separation: dict[str, Any] | None = None,
    control: Mapping[str, Any] | None = None,
) -> Ran:
    """`separate_catalog` in this process, against the test server."""
    diary = Diary()
    with followed_by(diary):
        state = separate_catalog(
            CatalogSources(sources=[str(source) for source in sources], limit=limit),
            Separation(library=str(library), **(separation or {})),
            RunControl(config=str(config), **(control or {})),
            return_state=True,
        )
    return _ran(state, diary, library)


def run_track(
    source: Path | str, library: Path, config: Path, *, track: dict[str, str] | None = None
) -> Ran:
    """`separate_track` in this process, against the test server."""
    diary = Diary()
    with followed_by(diary):
        state = separate_track(
            TrackSource(source=str(source), **(track or {})),
            Separation(library=str(library)),
            RunControl(config=str(config)),
            return_state=True,
        )
    return _ran(state, diary, library)


def _ran(state: Any, diary: Diary, library: Path) -> Ran:
    ended = state.result(raise_on_failure=False)
    if isinstance(ended, BaseException):
        raise ended
    return Ran(state, cast("RunSummary", ended), diary, library)


def files_under(folder: Path) -> list[str]:
    """Every file and every empty folder, relative to `folder`."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() or (path.is_dir() and not any(path.iterdir()))
    )


def finished_in(library: Path) -> dict[str, int]:
    """The folders with a report.json, and the inode of each report: what must never change."""
    return {
        str(path.parent.relative_to(library)): path.stat().st_ino
        for path in library.glob("tracks/*/*/report.json")
    }
