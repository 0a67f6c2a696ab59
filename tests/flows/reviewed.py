"""A library with a past: reports of known scores, verdicts and days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from tasks.contracts import TrackReport
from tasks.recording import Library
from tests.recording.factory import make_report

MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def report_of(
    track: int | str,
    score: float | None,
    *,
    day: float = 0,
    model: str = "htdemucs",
    genre: str = "rock",
    verdict: str = "",
    **descriptors: Any,
) -> TrackReport:
    """A report of this score, on a day counted from March 1; its stems score the same."""
    report = make_report(
        track,
        f"{model}-0123abcd",
        title=f"Song {track}",
        genre=genre,
        created_at=MARCH + timedelta(days=day),
    )
    judged = verdict or ("pass" if score is None or score >= 0.6 else "review")
    found = {
        "score": score,
        "verdict": judged,
        "estimated_si_sdr_db": None if score is None else 10 * score,
        "reasons": () if judged == "pass" else ("high_bleed",),
    }
    stems = {
        name: stem.model_copy(update={**found, **descriptors})
        for name, stem in report.quality.stems.items()
    }
    return report.model_copy(
        update={
            "quality": report.quality.model_copy(update={**found, "stems": stems}),
            "stem_set": report.stem_set.model_copy(update={"model": model}),
        }
    )


def scores(count: int, mean: float, seed: int = 0, sd: float = 0.05) -> Sequence[float]:
    drawn = np.random.default_rng(seed).normal(mean, sd, count)
    return [float(score) for score in np.clip(drawn, 0, 1)]


def fill(library: Library, reports: Sequence[TrackReport]) -> Library:
    library.write_rows(list(reports))
    return library


def fallen_library(library: Library) -> Library:
    """Forty tracks that passed; then, on day 10, thirty worse ones, and one with odd stems."""
    before = [report_of(n, score) for n, score in enumerate(scores(40, 0.8))]
    after = [
        report_of(100 + n, score, day=10, spectral_entropy=0.4 + n / 1000)
        for n, score in enumerate(scores(30, 0.65, seed=1))
    ]
    odd = report_of("odd", 0.66, day=10, spectral_entropy=0.99)
    return fill(library, [*before, *after, odd])
