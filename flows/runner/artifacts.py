"""What a run shows in the Prefect UI: a progress bar, a table of results, and of each flagged
track a page and a picture.

Artifacts are for people: they are written at most every few seconds, bounded in number and size,
and a failure to write one never fails a run.
"""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.markdown import escaped
from flows.runner.summary import RunSummary, by_words
from tasks.contracts import Estimate, Reason, TrackReport
from tasks.heard import faults, why, worst_fault
from tasks.recording import TrackRow
from tasks.wording import (
    QUALITY,
    QUALITY_EXPLAINED,
    RESIDUAL_EXPLAINED,
    SCORE_EXPLAINED,
    SI_SDR_EXPLAINED,
    clock,
    estimate_text,
    number,
    quality_word,
    score_text,
)

log = logging.getLogger(__name__)

ROWS = 500
PAGES = 50
PICTURES = 20
"""A picture takes about a second to draw and 100 kB of Prefect's database."""
EVERY_S = 5.0


_seen: ContextVar[bool] = ContextVar("seen", default=True)


@contextmanager
def unseen() -> Iterator[None]:
    """Within this context no artifact is made: the server ends with the run."""
    token = _seen.set(False)
    try:
        yield
    finally:
        _seen.reset(token)


def kept_quiet(write: Callable[[], Any]) -> UUID | None:
    if not _seen.get():
        return None
    # The library types these as async, too: called from a sync flow they answer at once.
    try:
        made: UUID = write()
        return made
    except Exception as error:
        # The record is in the library; the UI is a view of it.
        log.warning("an artifact could not be written: %s", error)
        return None


class ProgressArtifact:
    """The run's progress bar in the UI, updated at most every few seconds."""

    def __init__(self) -> None:
        self._id: UUID | None = None
        self._written = 0.0

    def update(self, share: float, description: str, *, last: bool = False) -> None:
        """Show `share` (0 to 1) of the run as finished."""
        now = time.monotonic()
        if not last and now - self._written < EVERY_S:
            return
        self._written = now
        percent = round(100 * min(max(share, 0.0), 1.0), 1)
        known = self._id
        if known is None:
            self._id = kept_quiet(
                lambda: create_progress_artifact(
                    percent, key="separation-progress", description=description
                )
            )
        else:
            kept_quiet(lambda: update_progress_artifact(known, percent, description=description))


def write_results_table(summary: RunSummary) -> None:
    """A row a track, those that need a listener first."""
    order: dict[str, int] = {name: place for place, name in enumerate(reversed(QUALITY))}
    lines = sorted(summary.tracks, key=lambda line: (order.get(line.verdict or "", 3), line.label))
    rows = [
        {
            "track": failure.label or failure.source,
            "status": "failed",
            "quality": "",
            "score": "",
            "why, or the worst heard": f"{failure.stage}: {failure.message}",
            "SI-SDR, est.": "",
            "× real time": "",
            "by": "",
            "cost, $": "",
        }
        for failure in summary.failures[:ROWS]
    ] + [
        {
            "track": line.label,
            "status": line.status,
            "quality": quality_word(line.verdict) if line.verdict else "",
            "score": score_text(line.score, none=""),
            "why, or the worst heard": why(line),
            "SI-SDR, est.": number(line.estimated_si_sdr_db, 1, " dB", none=""),
            "× real time": number(line.realtime_factor, 1, none=""),
            "by": by_words(line.provider) if line.provider else "",
            "cost, $": number(line.cost_usd or None, 3, none=""),
        }
        for line in lines[:ROWS]
    ]
    if rows:
        said = (
            f"{summary.headline} {summary.library}\n\n{QUALITY_EXPLAINED} {SCORE_EXPLAINED} "
            f"{SI_SDR_EXPLAINED}"
        )
        kept_quiet(lambda: create_table_artifact(rows, key="separation-results", description=said))


class FlaggedPages:
    """A page and a picture for each track whose verdict is below pass, up to a bound each."""

    def __init__(self) -> None:
        self._pages = PAGES
        self._pictures = PICTURES

    def write(self, report: TrackReport, library: str) -> None:
        if report.quality.verdict == "pass" or self._pages <= 0:
            return
        self._pages -= 1
        folder = f"{library}/tracks/{report.track_id}/{report.separation_id}"
        page = flagged_page(report, folder)
        description = f"{report.label}: {quality_word(report.quality.verdict)}"
        kept_quiet(
            lambda: create_markdown_artifact(
                page, key=_key("flagged", report), description=description
            )
        )
        if self._pictures > 0 and "://" not in library:
            self._pictures -= 1
            kept_quiet(lambda: _write_picture(report, folder, description))


def _write_picture(report: TrackReport, folder: str, description: str) -> UUID | None:
    """The spectrograms with the marked passages, from the stems in a local library.

    As a `data:` URI: the UI takes any address that an image may have, and a page of the UI can
    reach no file of ours. On an object store the stems are far away by now, and are left there.
    """
    from tasks.recording.gallery import flagged_picture

    picture = flagged_picture(report, Path(folder))
    if picture is None:
        return None
    uri = f"data:image/webp;base64,{base64.b64encode(picture).decode('ascii')}"
    made: UUID = create_image_artifact(  # type: ignore[assignment]
        uri, key=_key("spectrogram", report), description=description
    )
    return made


def _key(what: str, report: TrackReport) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{what}-{report.track_id}".lower())


def flagged_page(report: TrackReport, folder: str) -> str:
    """What is wrong with a separation, stem by stem, with the seconds to listen to."""
    quality = report.quality
    residual = number(TrackRow.of(report).residual_db, 1, " dB")
    lines = [
        f"# {escaped(report.label)}",
        f"**{quality_word(quality.verdict)}**, score {score_text(quality.score)}, estimated SI-SDR "
        f"{_estimate(quality)}, residual {residual}. Model {report.stem_set.model}, "
        f"{clock(report.duration_s)} on {report.stem_set.device}.",
        "",
        "| stem | quality | score | est. SI-SDR | bleed | worst heard |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, stem in quality.stems.items():
        lines.append(
            f"| {name} | {quality_word(stem.verdict)} | {score_text(stem.score)} | "
            f"{_estimate(stem)} | {number(stem.bleed_db, 1, ' dB')} | "
            f"{escaped(worst_fault(stem.details))} |"
        )
    lines += ["", "## What is heard", "", *_listed(quality.every_detail)]
    if quality.every_warning:
        lines += ["", "## Worth a look", "", *_listed(quality.every_warning)]
    lines += ["", f"Stems: `{folder}`", f"Source: `{report.source}`", "", QUALITY_EXPLAINED]
    lines += [SCORE_EXPLAINED, SI_SDR_EXPLAINED, RESIDUAL_EXPLAINED]
    return "\n".join(lines)


def _estimate(quality: Estimate) -> str:
    ends = quality.estimated_si_sdr_low_db, quality.estimated_si_sdr_high_db
    return estimate_text(quality.estimated_si_sdr_db, *ends)


def _listed(reasons: Iterable[Reason]) -> list[str]:
    """A line a fault, and under it what the measures say."""
    lines = []
    for fault in faults(reasons):
        lines.append(f"- **{escaped(fault.sentence)}**")
        lines += [f"    - `{one.code}`: {escaped(one.sentence)}" for one in fault.reasons]
    return lines
