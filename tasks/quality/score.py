"""Score a separation from its files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tasks.contracts import QualityPolicy, QualityReport
from tasks.errors import EmptyAudio, IncompleteSeparation, ProtocolError
from tasks.quality.measures import Measures
from tasks.quality.spectra import stream
from tasks.quality.verdict import Judge


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
    """Judge how well a mixture was separated, without the true stems.

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
    policy = policy or QualityPolicy()
    measures = Measures(tuple(stems), all_stems=all_stems, absent_db=policy.absent_stem_db)
    files = {name: Path(path) for name, path in stems.items()}
    if not measures.take(stream(Path(mixture), files, gain)):
        raise EmptyAudio("the mixture has no samples.", stage="score")
    with np.errstate(invalid="ignore", divide="ignore"):
        judge = Judge(policy, all_stems=all_stems, model=model, genre=genre)
        return judge.track(measures.result(), source_damaged_s)
