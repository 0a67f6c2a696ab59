"""A review in words: its page in the UI, and the rows of its table."""

from __future__ import annotations

from typing import Any

from flows.markdown import escaped
from flows.reviewing import Drift, ReviewSummary
from tasks.heard import why
from tasks.quality.drift import Shift
from tasks.wording import number, quality_word, score_text

ROWS = 500
LISTED = 20


def review_page(summary: ReviewSummary) -> str:
    """The review as markdown: counts, drifts with their intervals, what is flagged or unusual."""
    lines = [
        f"# Review of {escaped(summary.library)}",
        escaped(summary.headline),
        "",
        f"{summary.populations} populations are calibrated"
        + ("." if summary.written else "; nothing was written."),
        "",
        f"## Since {summary.since:%Y-%m-%d %H:%M} UTC, against before",
        "",
    ]
    if summary.drifts:
        level = f"{100 * summary.confidence:g} %"
        lines += [
            f"Shift with its {level} interval (Hodges–Lehmann); within genre, each genre's median "
            "is taken off first. P(better): the chance that a new one is above an old one.",
            "",
            "| model | of | measure | reports | shift | within genre | P(better) |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *(_drift_line(drift) for drift in summary.drifts),
        ]
    else:
        lines.append("Too few reports on one side to compare the two.")
    lines += ["", f"## Flagged: {summary.flagged_count:,}", ""]
    lines += [
        f"- **{quality_word(track.verdict)}** {escaped(track.label)}"
        + (f" (was {quality_word(track.was)})" if track.was not in ("", track.verdict) else "")
        + f": {escaped(why(track)) or 'no reason given'}"
        for track in summary.flagged[:LISTED]
    ]
    lines += ["", f"## Unusual stems: {summary.atypical_count:,}", ""]
    lines += [
        f"- {stem.stem} of {escaped(stem.label)}: "
        + ", ".join(f"{name} z = {z:+.1f}" for name, z in stem.descriptors.items())
        for stem in summary.atypical[:LISTED]
    ]
    if summary.atypical_count:
        lines += ["", "Unusual among its like isn't bad: it changes no verdict."]
    return "\n".join(lines)


def _drift_line(drift: Drift) -> str:
    digits, unit = (3, "") if drift.measure == "score" else (2, " dB")
    name = "score" if drift.measure == "score" else "est. SI-SDR"
    plain, within = (in_words(one, digits, unit) for one in (drift.plain, drift.within_genre))
    counts = f"{drift.plain.later:,} against {drift.plain.earlier:,}"
    better = f"{drift.plain.superiority:.2f}"
    bold = "**" if drift.within_genre.moved else ""
    cells = [drift.model, drift.stem or "tracks", name, counts, plain, f"{bold}{within}{bold}"]
    return "| " + " | ".join([*map(_cell, cells), better]) + " |"


def in_words(shift: Shift, digits: int, unit: str = "") -> str:
    """ "-0.031 (-0.052 to -0.011)"; "–" where there were too few."""
    if shift.shift is None or shift.low is None or shift.high is None:
        return "–"
    middle, low, high = (f"{x:+.{digits}f}" for x in (shift.shift, shift.low, shift.high))
    return f"{middle}{unit} ({low} to {high})"


def flagged_rows(summary: ReviewSummary) -> list[dict[str, Any]]:
    """A row a flagged track, the worst first, as the UI's table takes them."""
    return [
        {
            "track": track.label,
            "model": track.model,
            "genre": track.genre,
            "quality": quality_word(track.verdict),
            "was": quality_word(track.was) if track.was else "",
            "score": score_text(track.score, none=""),
            "percentile": number(track.percentile, 0, none=""),
            "of": track.population,
            "worst heard": why(track),
        }
        for track in summary.flagged[:ROWS]
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
