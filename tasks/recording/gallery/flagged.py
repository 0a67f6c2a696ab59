"""One picture of what is wrong with a separation: the flagged stems, with the marked passages."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contracts import Reason, TrackReport
from tasks.recording.gallery.signals import MIXTURE, SignalUnreadable, observe, signal_files
from tasks.recording.gallery.spectrogram import Look
from tasks.wording import quality_word, score_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEMS = 4
BYTES = 150_000

_WIDTH_IN = 9.0
_QUALITIES = (75, 50, 25)
_MARK = "#8df3ea"
_MARKS = 5
"""Of one stem: more have no room for their words."""


def flagged_picture(report: TrackReport, folder: Path) -> bytes | None:
    """Draw a WebP of at most `BYTES`: spectrograms of the mixture and of up to `STEMS` stems that
    are below pass, the worst first, each passage that has a reason between two lines.

    Args:
        report: Of a finished separation.
        folder: Its folder, on the local disk.

    Returns:
        The picture, or None where no file can be read or it would be too large.
    """
    files = signal_files(report)
    looks: dict[str, Look] = {}
    for name in [MIXTURE, *_flagged(report)]:
        try:
            looks[name] = observe(folder / files[name])[0]
        except (KeyError, SignalUnreadable):
            continue
    if not looks:
        return None
    image = _drawn(report, looks)
    pictures = (_webp(image, quality) for quality in _QUALITIES)
    return next((picture for picture in pictures if len(picture) <= BYTES), None)


def _flagged(report: TrackReport) -> list[str]:
    stems = report.quality.stems
    below = [name for name, stem in stems.items() if stem.verdict != "pass"]

    def worst(name: str) -> float:
        score = stems[name].score
        return 1.0 if score is None else score

    return sorted(below, key=worst)[:STEMS]


def _drawn(report: TrackReport, looks: dict[str, Look]) -> Any:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    loudest = max(float(look.power.max(initial=0)) for look in looks.values())
    with mpl.rc_context({"text.parse_math": False, "font.size": 9.0}):
        height = 0.55 + 1.15 * len(looks)
        figure = Figure(figsize=(_WIDTH_IN, height), dpi=100)
        figure.subplots_adjust(0.08, 0.45 / height, 0.975, 1 - 0.1 / height, hspace=0.08)
        canvas: Any = FigureCanvasAgg(figure)
        lanes: Any = figure.subplots(len(looks), 1, sharex=True, squeeze=False)[:, 0]
        reasons = report.quality.every_detail
        for axes, (name, look) in zip(lanes, looks.items(), strict=True):
            _lane(axes, look, loudest)
            _mark(axes, (reason for reason in reasons if (reason.stem or MIXTURE) == name))
            axes.set_ylabel(_label(report, name))
        lanes[-1].set_xlabel("seconds")
        canvas.draw()
        return canvas.buffer_rgba()


def _webp(image: Any, quality: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.asarray(image)[..., :3]).save(file, "WEBP", quality=quality)
    return file.getvalue()


def _lane(axes: Axes, look: Look, loudest: float) -> None:
    axes.imshow(
        look.levels(loudest),
        cmap="magma",
        vmin=0,
        vmax=255,
        aspect="auto",
        extent=(0, look.duration_s, 0, 1),
        interpolation="nearest",
    )
    axes.set_yticks([])


def _mark(axes: Axes, reasons: Iterable[Reason]) -> None:
    placed = [reason for reason in reasons if reason.start_s is not None]
    for line, reason in enumerate(placed[:_MARKS]):
        if reason.start_s is None or reason.end_s is None:
            continue
        for second in (reason.start_s, reason.end_s):
            axes.axvline(second, color=_MARK, lw=1.2)
        axes.axvspan(reason.start_s, reason.end_s, 0.93, 1, color=_MARK, lw=0)
        words = reason.code.replace("_", " ")
        box = {"facecolor": "black", "alpha": 0.55, "pad": 1.5, "lw": 0}
        axes.annotate(
            words,
            (reason.start_s, 0.9 - 0.17 * line),
            xytext=(3, 0),
            textcoords="offset points",
            va="top",
            color="white",
            fontsize=8,
            bbox=box,
            clip_on=True,
        )


def _label(report: TrackReport, name: str) -> str:
    stem = report.quality.stems.get(name)
    if stem is None:
        return name
    return f"{name}\n{quality_word(stem.verdict)} {score_text(stem.score, none='')}".rstrip()
