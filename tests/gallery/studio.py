"""Libraries of real, short audio, as a run would leave them, quick to make."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tasks.contracts import (
    STEMS,
    QualityReport,
    Reason,
    StemQuality,
    TrackReport,
    Verdict,
)
from tasks.recording import Library
from tests.recording.factory import RATE_HZ, make_report

TONES_HZ = {"drums": 3000.0, "bass": 110.0, "other": 660.0, "vocals": 1320.0}
SECONDS = 4.0
_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def tone(hertz: float, seconds: float = SECONDS, level: float = 0.1) -> Any:
    """A stereo tone that comes and goes once a second, (frames, 2)."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    one = level * np.sin(2 * np.pi * hertz * t) * (0.6 + 0.4 * np.sin(2 * np.pi * t))
    return np.repeat(one[:, None], 2, axis=1).astype(np.float32)


def reason(stem: str, start_s: float, end_s: float, code: str = "bleed_from_drums") -> Reason:
    sentence = f"The {stem or 'track'} holds some of the drums."
    return Reason(code=code, sentence=sentence, stem=stem, start_s=start_s, end_s=end_s)


def quality_of(verdict: Verdict, score: float | None, details: tuple[Reason, ...]) -> QualityReport:
    """A report on quality in which the first stem of the details is as bad as the track."""
    worst = {detail.stem for detail in details}

    def stem(name: str) -> StemQuality:
        own = tuple(detail for detail in details if detail.stem == name)
        return StemQuality(
            score=score if name in worst else 0.9,
            verdict=verdict if name in worst else "pass",
            estimated_si_sdr_db=5.0,
            reasons=tuple(detail.code for detail in own),
            details=own,
            bleed_db=-12.0,
            bleed_from="drums",
        )

    return QualityReport(
        score=score,
        verdict=verdict,
        estimated_si_sdr_db=None if score is None else 10 * score,
        estimated_si_sdr_low_db=None if score is None else 10 * score - 4,
        estimated_si_sdr_high_db=None if score is None else 10 * score + 3,
        reasons=tuple(detail.code for detail in details),
        details=details,
        stems={name: stem(name) for name in STEMS},
    )


def report_of(
    track: int,
    *,
    verdict: Verdict = "pass",
    score: float | None = 0.8,
    model: str = "htdemucs",
    day: int = 0,
    details: tuple[Reason, ...] = (),
    seconds: float = SECONDS,
    **changes: Any,
) -> TrackReport:
    frames = int(seconds * RATE_HZ)
    made = make_report(
        track,
        **{"title": f"Song {track}", "artist": "Band"} | changes,
        created_at=_MONDAY + timedelta(days=day, minutes=track),
        duration_s=seconds,
        quality=quality_of(verdict, score, details),
    )
    return made.model_copy(
        update={
            "stem_set": made.stem_set.model_copy(update={"model": model, "frames": frames}),
            "mixture": made.mixture.model_copy(update={"frames": frames}),
        }
    )


def put(library: Library, report: TrackReport) -> TrackReport:
    """Commit a report with its audio: a tone a stem, and their sum."""
    with library.workspace("run") as scratch:
        folder = scratch / report.track_id
        folder.mkdir()
        stems = {name: tone(TONES_HZ[name], report.duration_s) for name in report.stem_set.stems}
        for name, samples in (stems | {"mixture": sum(stems.values())}).items():
            soundfile.write(folder / f"{name}.flac", samples, RATE_HZ, subtype="PCM_24")
        checks = {
            name: check.model_copy(update={"bytes": (folder / f"{name}.flac").stat().st_size})
            for name, check in report.completeness.stems.items()
        }
        whole = report.completeness.model_copy(update={"stems": checks})
        done = library.commit(folder, report.model_copy(update={"completeness": whole}))
        library.write_rows([done])
    return done


def folder_of(library: Library, report: TrackReport) -> Path:
    return Path(library.folder(report.track_id, report.separation_id))


FLAGGED = (reason("vocals", 1.0, 2.0), reason("", 2.5, 3.0, "residual_high"))


def small_library(place: Path | str) -> Library:
    """Three tracks of different verdicts, models and genres; the first with marked passages."""
    library = Library(place)
    put(library, report_of(1, verdict="fail", score=0.2, genre="Rock", details=FLAGGED))
    put(library, report_of(2, verdict="review", score=0.5, genre="Jazz", model="embedded"))
    put(library, report_of(3, verdict="pass", score=0.9, genre="Rock", artist="Quartet"))
    return library
