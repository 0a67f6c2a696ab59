"""How good the stems of the bundled music really are: its true stems lie beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tasks.sources
from flows.evaluating import Evaluation, StemResult, TrackResult
from flows.runner.summary import TrackLine
from tasks.recording import Library

BUNDLED = Path(tasks.sources.__file__).parent / "bundled"


def evaluate_bundled(lines: Iterable[TrackLine], library: Library) -> Evaluation:
    """Hold the separations of bundled pieces against their true stems.

    Args:
        lines: Of a run; those of other music are passed over.
        library: A local one, which has their reports and stems.
    """
    found = [
        _result(line, library)
        for line in lines
        if line.stems and line.verdict and BUNDLED in Path(line.source).parents
    ]
    return Evaluation(model=found[0].model if found else "", tracks=found)


def _result(line: TrackLine, library: Library) -> TrackResult:
    from tasks.quality.reference import si_sdrs_db

    report = library.report(line.track_id or "", line.separation_id or "")
    piece = Path(line.source).parent
    truth = si_sdrs_db(
        {name: piece / f"{name}.flac" for name in line.stems},
        {name: Path(path) for name, path in line.stems.items()},
    )
    shared = set(StemResult.model_fields)
    stems = {
        name: StemResult(
            si_sdr_db=si_sdr_db, **report.quality.stems[name].model_dump(include=shared)
        )
        for name, si_sdr_db in truth.items()
    }
    return TrackResult(
        track=line.label,
        model=report.stem_set.model,
        duration_s=report.duration_s,
        separation_s=report.stem_set.separation_s,
        stems=stems,
    )
