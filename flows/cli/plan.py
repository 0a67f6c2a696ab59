"""`stemwright plan`: what `separate` would do. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from flows.cli import options as opt
from flows.cli.console import errors_shown, out, plain, print_json, safe

if TYPE_CHECKING:
    from flows.planning import Plan

SHOWN = 40
PARTS = {
    "first": "first",
    "next": "then",
    "after_oom": "if the GPU is full",
    "paused": "not now",
    "blocked": "not",
}


@opt.with_run_options
def plan(options: opt.RunOptions, as_json: opt.AsJson = False) -> None:
    """Show what `separate` would do with the same arguments: tracks, engine, time, disk, cost.

    A SOURCE is what it is for `separate`. Nothing is changed.

    Example: stemwright plan ~/Music/album --library ./library
    """
    with errors_shown(as_json):
        from flows.cli.separate import read_settings
        from flows.planning import Outlook, make_plan
        from tasks.sources import read_catalog

        outlook = Outlook.of(read_settings(options))
        policy, limit = outlook.settings.ingest_policy(), options.limit or None
        made = make_plan(
            read_catalog(options.sources, policy=policy, limit=limit),
            outlook,
            force=options.force,
            retry_failed=options.retry_failed,
        )
        if as_json:
            print_json(made.model_dump(mode="json"))
        else:
            show(made)


def show(plan: Plan) -> None:
    """What is ahead: a line a track, then the sums."""
    from flows.cli.tables import many
    from tasks.wording import clock

    if not plan.found:
        out.print("No tracks found.")
    for track in plan.tracks[:SHOWN]:
        why = f" ({plain(track.why)})" if track.why else ""
        out.print(f"  {track.action:<9} {safe(track.label)}[dim]{escape(why)}[/]")
    if plan.found > SHOWN:
        out.print(f"  … and {plan.found - SHOWN:,} more")
    out.print(
        f"Tracks: {plan.found:,} found: {plan.to_separate:,} to separate, {plan.already:,} already "
        f"done, {plan.duplicates:,} duplicate, {plan.refused:,} refused"
    )
    where = safe(plan.device or plan.provider)
    out.print(f"Engine: {plan.engine} on {where}, model {safe(plan.model)}")
    if plan.to_fetch:
        out.print(f"        to be fetched first: {safe(plan.to_fetch)}", soft_wrap=True)
    for reason in plan.reasons:
        out.print(f"        {safe(reason)}")
    if len(plan.engines) > 1:
        out.print("Order:")
    for engine in plan.engines if len(plan.engines) > 1 else ():
        why = f" ({plain(engine.why)})" if engine.why else ""
        out.print(f"  {PARTS[engine.part]:<16} {safe(engine.name)}[dim]{escape(why)}[/]")
    basis = "as measured in this library" if plan.speed_measured else "assumed, not measured yet"
    out.print(
        f"Time:   about {clock(plan.estimated_s)} for {clock(plan.audio_s)} of audio "
        f"({plan.speed:.1f}× real time, {basis})"
    )
    free = "" if plan.free_bytes is None else f" ({plan.free_bytes / 1e9:.1f} GB free)"
    out.print(f"Disk:   about {plan.estimated_bytes / 1e6:.0f} MB in {safe(plan.library)}{free}")
    cost = plan.estimated_cost_usd
    unknown = "Cost:   set by the service (engine.usd_per_minute isn't)"
    out.print(unknown if cost is None else f"Cost:   ${cost:.2f}")
    if plan.unseen:
        who = many(plan.unseen, "track")
        out.print(f"{who} must be fetched to be looked at: not in the time and disk above.")
