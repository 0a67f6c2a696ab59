"""From measures to scores, verdicts and reasons."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tasks.contracts import (
    QualityPolicy,
    QualityReport,
    QualityThresholds,
    Reason,
    StemQuality,
    Verdict,
)
from tasks.quality.measures import StemMeasures, TrackMeasures
from tasks.quality.ramps import sub_scores
from tasks.quality.reasons import reason

SILENCE_DBFS = -70.0
SEVERITY: dict[Verdict, int] = {"pass": 0, "review": 1, "fail": 2}


def judge_stem(stem: StemMeasures, policy: QualityPolicy) -> StemQuality:
    """A stem's score is its least sub-score; its reasons all those under the review threshold.

    An absent stem (far under the mixture) has no score and passes: that nobody sings is no fault.
    """
    silent = stem.values["rms_dbfs"] < SILENCE_DBFS
    absent = silent or stem.values["relative_energy_db"] < policy.absent_stem_db
    scored = [] if absent else sub_scores(stem.values)
    score = scored[0][0] if scored else None
    details = tuple(
        reason(
            ramp.code,
            stem=stem.name,
            other=stem.partners.get(ramp.measure, ""),
            value=stem.values[ramp.shown or ramp.measure],
            span=stem.spans.get(ramp.measure),
        )
        for sub_score, ramp in scored
        if sub_score < policy.thresholds.review
    )
    values = stem.values
    return StemQuality(
        score=score,
        verdict=verdict_of(score, policy.thresholds),
        estimated_si_sdr_db=None if absent else values["est_sdr_db"],
        reasons=_codes(details),
        details=details,
        absent=absent,
        silent=silent,
        spectral_entropy=values["spectral_entropy"],
        spectral_entropy_delta=values["spectral_entropy_delta"],
        spectral_flatness=values["spectral_flatness"],
        assignment_entropy=values.get("assignment_entropy"),
        bandwidth_hz=values["bandwidth_hz"],
        bleed_db=values.get("leak_db"),
        bleed_from=stem.partners.get("leak_db", ""),
        measures=_finite(values),
    )


def verdict_of(score: float | None, thresholds: QualityThresholds) -> Verdict:
    """`fail` under the fail threshold, `review` under the review threshold, else `pass`."""
    if score is None or score >= thresholds.review:
        return "pass"
    return "review" if score >= thresholds.fail else "fail"


def judge_track(track: TrackMeasures, policy: QualityPolicy) -> QualityReport:
    """The track's score is the mean over its present stems, and so is its estimated SI-SDR.

    The mean ranks tracks best; the verdict is the worst of the stems' verdicts and the residual's
    (research/quality.md). A silent mixture has no score and asks for a review.
    """
    stems = {stem.name: judge_stem(stem, policy) for stem in track.stems}
    present = [stem for stem in stems.values() if not stem.absent]
    residual_db = track.values.get("residual_db")
    if track.values["rms_dbfs"] < SILENCE_DBFS:
        verdict: Verdict = "review"
        details: tuple[Reason, ...] = (reason("mixture_silent", value=track.values["rms_dbfs"]),)
        present, score = [], None
    else:
        verdicts = [stem.verdict for stem in stems.values()]
        verdicts.append(residual_verdict(residual_db, policy))
        verdict = max(verdicts, key=lambda v: SEVERITY[v])
        details = _track_details(track, stems, policy)
        score = _mean(stem.score for stem in present)
        if score is None and verdict == "fail":
            # Nothing of the mixture is in any stem.
            score = 0.0
    return QualityReport(
        score=score,
        verdict=verdict,
        estimated_si_sdr_db=_mean(stem.estimated_si_sdr_db for stem in present),
        reasons=_codes(details),
        details=details,
        stems=stems,
        residual_db=residual_db,
        assignment_entropy=track.values.get("assignment_entropy"),
        spectral_entropy_mixture=track.values["spectral_entropy"],
        spectral_entropy_delta_mean=_mean(stem.spectral_entropy_delta for stem in present),
        bleed_db=max((s.bleed_db for s in present if s.bleed_db is not None), default=None),
        measures=_finite(track.values),
    )


def residual_verdict(residual_db: float | None, policy: QualityPolicy) -> Verdict:
    """Over -15 dB asks for a review, over -10 dB fails (both set by the policy)."""
    if residual_db is None or not residual_db > policy.residual_review_db:
        return "pass"
    return "fail" if residual_db > policy.residual_fail_db else "review"


def _track_details(
    track: TrackMeasures, stems: dict[str, StemQuality], policy: QualityPolicy
) -> tuple[Reason, ...]:
    """The residual first, then the stems' reasons, the worst stem's first."""
    residual_db = track.values.get("residual_db")
    details: list[Reason] = []
    if residual_db is not None and residual_verdict(residual_db, policy) != "pass":
        details.append(reason("residual_high", value=residual_db, span=track.residual_span))
        details.extend(
            reason("<stem>_silent_but_expected", stem=name, value=stem.measures["rms_dbfs"] or 0.0)
            for name, stem in stems.items()
            if stem.silent
        )
    for stem in sorted(stems.values(), key=lambda s: 1.0 if s.score is None else s.score):
        details.extend(stem.details)
    return tuple(details)


def _codes(details: Iterable[Reason]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(detail.code for detail in details))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
