"""How the scores spread, by model and by genre: SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.wording import score_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

GROUPS = 12
"""The largest are shown; the others are one more line."""

_WIDTH_IN = 4.6
_POINTS = 400

# matplotlib draws in these, and the page's own variables take their places: one picture for a
# light page and a dark one.
_INK, _MUTED, _LINE, _ACCENT = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _LINE: "--line", _ACCENT: "--accent"}


def spread(frame: pd.DataFrame, by: str) -> str:
    """Return an inline SVG: a line a group, a point a track, a box over the middle half.

    Args:
        frame: Rows of `reports/tracks`.
        by: `model` or `genre`.
    """
    groups = _groups(frame, by)
    if not groups:
        return ""
    return _drawn(groups, f"Score by {by}")


def described(frame: pd.DataFrame, by: str) -> str:
    """Return the same in words, for who can't see it."""
    parts = [
        f"{name}: median {score_text(float(np.median(scores)))} of {len(scores):,}"
        for name, scores in _groups(frame, by)
    ]
    return f"Score by {by}. " + "; ".join(parts) + "."


def _groups(frame: pd.DataFrame, by: str) -> list[tuple[str, Any]]:
    scored = frame[frame["score"].notna()]
    names = scored[by].fillna("").replace("", f"no {by}")
    grouped = scored.groupby(names.astype(str))["score"]
    scores = sorted(
        ((str(name), values.to_numpy()) for name, values in grouped),
        key=lambda item: (-len(item[1]), item[0]),
    )
    shown, rest = scores[:GROUPS], scores[GROUPS:]
    if rest:
        pooled = np.concatenate([values for _, values in rest])
        shown.append((f"{len(rest)} others", pooled))
    return shown


def _drawn(groups: Sequence[tuple[str, Any]], title: str) -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",  # words stay words, in the page's own font
        "svg.hashsalt": title,
        "text.parse_math": False,  # a genre with a dollar sign is no formula
        "font.size": 9.0,
        "text.color": _INK,
        "xtick.color": _MUTED,
        "ytick.color": _INK,
        "axes.labelcolor": _MUTED,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(_WIDTH_IN, 0.62 + 0.3 * len(groups)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _draw(axes, groups)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _themed(file.getvalue())


def _draw(axes: Axes, groups: Sequence[tuple[str, Any]]) -> None:
    chance = np.random.default_rng(0)
    for line, (_, scores) in enumerate(groups):
        low, middle, high = np.percentile(scores, (25, 50, 75))
        points = scores if len(scores) <= _POINTS else chance.choice(scores, _POINTS, replace=False)
        height = line + chance.uniform(-0.22, 0.22, len(points))
        axes.scatter(points, height, s=14, color=_ACCENT, alpha=0.6, linewidths=0, zorder=2)
        axes.barh(line, high - low, left=low, height=0.62, color=_LINE, zorder=1)
        if len(scores) > 1:
            axes.plot([middle, middle], [line - 0.31, line + 0.31], color=_INK, lw=1.6, zorder=3)
    names = [f"{_short(name)}  {len(scores):,}" for name, scores in groups]
    axes.set_yticks(range(len(groups)), names)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.grid(axis="x", color=_LINE, lw=0.8, zorder=0)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _short(name: str) -> str:
    return name if len(name) <= 22 else name[:21] + "…"


def _themed(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    opening = f'<svg viewBox="0 0 {width} {height}" aria-hidden="true" focusable="false">'
    return re.sub(r"^<svg[^>]*>", opening, svg, count=1)
