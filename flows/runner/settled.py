"""Tracks that need nothing done, and the run that has no others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from flows.runner.setup import Prepared
from flows.runner.summary import RunSummary, empty_summary
from tasks.contracts import Failure, IngestPolicy, Run, TrackRef
from tasks.known_tracks import KnownTracks
from tasks.outcome import Failed, Skipped
from tasks.recording import Library
from tasks.run_context import TrackState
from tasks.sources import read_catalog, source_for, source_of

_OFFLINE = IngestPolicy(offline=True)
COUNTED = 20_000
"""So many tracks of a catalog are looked at before it is begun; of more nothing is said."""


def settled_as(ref: TrackRef, known: KnownTracks) -> Skipped | Failed | None:
    """Return how an earlier run settled a track whose source hasn't changed, if one did."""
    outcome = known.outcome_of(ref)
    if not isinstance(outcome, Failed):
        return outcome
    remedy = (
        f"{outcome.failure.remedy} It failed so in an earlier run and hasn't changed since; "
        "--retry-failed tries it again."
    )
    update = {"label": ref.label, "remedy": remedy.strip()}
    return Failed(outcome.failure.model_copy(update=update), remembered=True)


def cheap_tracks(sources: list[str], limit: int | None) -> list[TrackRef | Failure] | None:
    """Return the tracks, and the rows that can't be read, of sources whose reading costs next to
    nothing; of others, or of more than `COUNTED`, None."""
    if not all(source_for(source).is_cheap_to_count(source) for source in sources):
        return None
    # Asking each address in a catalog whether it is a playlist is the run's work.
    found: list[TrackRef | Failure] = []
    for ref in islice(read_catalog(sources, policy=_OFFLINE, limit=limit, quiet=True), COUNTED):
        if isinstance(ref, TrackRef) and not source_of(ref).is_cheap_to_count(ref.source):
            return None
        found.append(ref)
    return found if len(found) < COUNTED else None


def settled_run(
    refs: Iterable[TrackRef | Failure], prepared: Prepared, known: KnownTracks
) -> RunSummary | None:
    """Return what a run would come to that has nothing to do; None where it has something."""
    summary = empty_summary(prepared, Library(prepared.settings.library).url, Run(run_id=""))
    for ref in refs:
        if isinstance(ref, Failure):
            return None
        track = TrackState(ref=ref, folder=Path(os.devnull))
        track.outcome = settled_as(ref, known)
        if not track.remembered:
            return None
        summary.add(track, fail_under=0.0)
    return summary
