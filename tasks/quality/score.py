"""Score a separation: from its files, or from what was measured while they were read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from tasks.audio.side_by_side import SideBySide
from tasks.contracts import QualityPolicy, QualityReport
from tasks.errors import EmptyAudio, IncompleteSeparation, ProtocolError
from tasks.quality.measure import Measures, Scope, TrackMeasures
from tasks.quality.verdict import Scorer


def score_separation(
    mixture: Path,
    stems: Mapping[str, Path],
    policy: QualityPolicy | None = None,
    *,
    gain: float = 1.0,
    all_stems: bool = True,
    model: str = "",
    genre: str = "",
    source_damaged_s: float | None = None,
) -> QualityReport:
    """Judge how well a mixture was separated, without reference stems.

    Everything is measured in one pass over the files, 1.5 s at a time; an hour of five signals
    holds some 10 MB more than a minute (the levels of 10 ms slices, looked at as a whole).
    `tasks.quality.model` says how the measures become a score.

    Args:
        mixture: The audio that was separated.
        stems: The stems' files by name, of the mixture's rate, channels and length.
        policy: Thresholds; the default ones if None.
        gain: What all stems were multiplied by when they were written; it is undone.
        all_stems: Whether these are all stems of the model. If not, what needs the whole sum
            (residual, missing energy, assignment entropy, level) is null and left out of the score.
        model: The separation model's name, for the policy's `per_model`.
        genre: The track's genre, for the policy's `per_genre`.
        source_damaged_s: The seconds lost of a damaged source, which gets no more than a review;
            None for a whole one.

    Returns:
        Scores from 0 to 1 and verdicts of the stems and the track, with reasons.

    Raises:
        CorruptAudio: A file can't be decoded, or holds samples that are not finite.
        EmptyAudio: The mixture has no samples.
        IncompleteSeparation: There is no stem, or one hasn't the mixture's shape.
        SourceMissing, SourceUnreadable: A file isn't there, or may not be read.
        ProtocolError: The gain isn't a positive number.
    """
    if not stems:
        raise IncompleteSeparation("there are no stems to score.", stage="score")
    if not (math.isfinite(gain) and gain > 0):
        raise ProtocolError(
            f"the stems' common gain is {gain}, where a positive number is needed.", stage="score"
        )
    measures = measures_of(tuple(stems), policy, all_stems=all_stems)
    files = {name: Path(path) for name, path in stems.items()}
    with SideBySide(Path(mixture), files, gain=gain, stage="score") as signals:
        for passage in signals.passages():
            measures.update(passage)
    return score_measures(
        measures.result(), policy, model=model, genre=genre, source_damaged_s=source_damaged_s
    )


def measures_of(
    stems: tuple[str, ...], policy: QualityPolicy | None = None, *, all_stems: bool = True
) -> Measures:
    """Return the measures of a separation that is about to be read; feed them its passages.

    Args:
        stems: The stems' names, in the passages' order.
        policy: What counts as absent; the default one if None.
        all_stems: Whether these are all stems of the model.
    """
    return Measures(Scope(stems, all_stems, (policy or QualityPolicy()).absent_stem_db))


def score_measures(
    measured: TrackMeasures,
    policy: QualityPolicy | None = None,
    *,
    model: str = "",
    genre: str = "",
    source_damaged_s: float | None = None,
) -> QualityReport:
    """Judge a separation by what was measured of it; nothing is read.

    Raises:
        EmptyAudio: There was nothing to measure.
    """
    if not measured.duration_s:
        raise EmptyAudio("the mixture has no samples.", stage="score")
    scorer = Scorer(policy or QualityPolicy(), model=model, genre=genre)
    return scorer.track(measured, source_damaged_s)
