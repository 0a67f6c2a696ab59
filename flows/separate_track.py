"""The flow that separates one track: what a person starts from the Prefect UI."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.parameters import RunControl, Separation, TrackSource
from flows.runner.run import run_tracks
from flows.runner.setup import prepared_for
from flows.runner.summary import RunSummary
from flows.saved_blocks import SavedBlocks
from tasks.contracts import Failure, TrackRef, track_label
from tasks.paths import path_of
from tasks.sources import read_catalog


def _name() -> str:
    """ "separate · Artist – Title", as far as the parameters or the file's own tags tell."""
    given = flow_run.parameters.get("track")
    track = TrackSource.model_validate(given) if isinstance(given, dict) else given
    return f"separate · {_label(track)}"[:200] if track else "separate"


def _label(track: TrackSource) -> str:
    import os.path
    from pathlib import Path

    from tasks.sources.guessing import with_guess
    from tasks.sources.tags import read_tags

    try:
        path = path_of(track.source)
    except ValueError:
        path = ""
    if not os.path.isfile(path):  # noqa: PTH113  # a name may be too long
        return track_label(track.artist, track.title, track.source)
    own = read_tags(Path(path))
    ref = TrackRef(source=track.source, kind="file", title=track.title, artist=track.artist)
    tags = with_guess(own, ref, own)
    return track_label(track.artist or tags.artist, track.title or tags.title, track.source)


@flow(
    name="separate-track",
    flow_run_name=_name,
    description="Separate one track into stems, check them, score them, and write a report.",
    persist_result=False,
)
def separate_track(
    track: TrackSource,
    separation: Separation = Separation(),  # noqa: B008 - frozen defaults make the UI's form
    control: RunControl = RunControl(),  # noqa: B008
    blocks: SavedBlocks = SavedBlocks(),  # noqa: B008
) -> State[RunSummary]:
    """Separate one track.

    Args:
        track: Which track.
        separation: What to make of it, and where to put it.
        control: How to run.
        blocks: Prefect blocks to take settings from.
    """
    prepared = prepared_for(separation, control, blocks)
    policy = prepared.settings.ingest_policy()
    refs = [_titled(ref, track) for ref in read_catalog([track.source], policy=policy)]
    return run_tracks(refs, prepared, control, total=len(refs))


def _titled(ref: TrackRef | Failure, track: TrackSource) -> TrackRef | Failure:
    """What the form says of the track wins over what the source says."""
    if isinstance(ref, Failure):
        return ref
    said = {
        name: value
        for name in ("title", "artist", "album", "genre")
        if (value := getattr(track, name))
    }
    return ref.model_copy(update=said)
