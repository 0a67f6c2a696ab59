"""The flow that separates a catalog: any number of tracks through a bounded window."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.parameters import CatalogSources, RunControl, Separation
from flows.runner.run import run_tracks
from flows.runner.settled import cheap_tracks
from flows.runner.setup import prepared_for
from flows.runner.summary import RunSummary
from flows.saved_blocks import SavedBlocks
from tasks.contracts import track_label
from tasks.sources import read_catalog


def _name() -> str:
    tracks = flow_run.parameters.get("tracks") or {}
    sources = tracks.get("sources", []) if isinstance(tracks, dict) else tracks.sources
    first = track_label("", "", str(sources[0])) if sources else "catalog"
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return f"separate · {first}{more}"[:200]


@flow(
    name="separate-catalog",
    flow_run_name=_name,
    description="Separate every track of a catalog that isn't separated yet, check each one, "
    "score it, and write a report per track. Running it again goes on where it stopped.",
    persist_result=False,
)
def separate_catalog(
    tracks: CatalogSources,
    separation: Separation = Separation(),  # noqa: B008 - frozen defaults make the UI's form
    control: RunControl = RunControl(),  # noqa: B008
    blocks: SavedBlocks = SavedBlocks(),  # noqa: B008
) -> State[RunSummary]:
    """Separate a catalog.

    Args:
        tracks: Which tracks.
        separation: What to make of them, and where to put it.
        control: How to run.
        blocks: Prefect blocks to take settings from.
    """
    limit = tracks.limit or None
    # So that a share can be shown; other catalogs are read only once, lazily.
    counted = cheap_tracks(tracks.sources, limit)
    prepared = prepared_for(separation, control, blocks)
    refs = read_catalog(tracks.sources, policy=prepared.settings.ingest_policy(), limit=limit)
    return run_tracks(refs, prepared, control, total=None if counted is None else len(counted))
