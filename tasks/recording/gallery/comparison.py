"""Two separations of one track on one time line, to be switched between while they play."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.contracts import TrackReport
from tasks.recording.gallery.details import Detail
from tasks.recording.gallery.page import rounded
from tasks.recording.gallery.signals import MIXTURE

_FACTS = ("score", "estimated_si_sdr_db")


def compared(
    reports: Sequence[TrackReport], details: Sequence[Detail], names: Sequence[str]
) -> Detail:
    """Return what the page shows of a track that two models have separated.

    The mixture's lane, then each stem's of the one and of the other; whatever is said names whose
    it is.

    Args:
        reports: Of the first and of the second, whose row the page's table has.
        details: The same.
        names: What the two are called.
    """
    versions = [
        {"name": name, "verdict": report.quality.verdict}
        | {fact: rounded(fact, getattr(report.quality, fact)) for fact in _FACTS}
        | {"separation_s": rounded("separation_s", report.stem_set.separation_s)}
        for report, name in zip(reports, names, strict=True)
    ]
    said = {
        what: [_named(one, name) for detail, name in _each(details, names) for one in detail[what]]
        for what in ("reasons", "warnings", "problems", "notes")
    }
    return dict(details[-1]) | said | {"versions": versions, "lanes": _lanes(details, names)}


def _lanes(details: Sequence[Detail], names: Sequence[str]) -> list[Detail]:
    mixture = [lane for lane in details[0]["lanes"] if lane["name"] == MIXTURE]
    lanes = [
        lane | {"name": _lane_of(lane["name"], name), "stem": lane["name"], "version": at}
        for at, (detail, name) in enumerate(_each(details, names))
        for lane in detail["lanes"]
        if lane["name"] != MIXTURE
    ]
    order = list(dict.fromkeys(lane["stem"] for lane in lanes))
    return mixture + sorted(lanes, key=lambda lane: order.index(lane["stem"]))


def _each(details: Sequence[Detail], names: Sequence[str]) -> list[tuple[Detail, str]]:
    return list(zip(details, names, strict=True))


def _lane_of(stem: str, name: str) -> str:
    return stem if stem == MIXTURE else f"{stem}, {name}"


def _named(one: Any, name: str) -> Any:
    """Something that is said of a separation, with the name of who made it."""
    if isinstance(one, str):
        return f"{name}: {one}"
    lane = _lane_of(one["lane"], name)
    return one | {"lane": lane, "sentence": f"{name}: {one['sentence']}"}
