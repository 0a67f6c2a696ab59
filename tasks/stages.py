"""The six stages as plain functions: each takes one value and returns the next.

    TrackRef → Ingested → Normalized → Separated → Validated → Scored → TrackReport

Every value is frozen and small (paths and hashes, never audio), so that a stage may run in another
thread, process or machine. Prefect's tasks around them are in `tasks.stage_tasks`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tasks.contracts import (
    AudioPolicy,
    Completeness,
    CompletenessPolicy,
    IngestPolicy,
    Mixture,
    QualityPolicy,
    QualityReport,
    Run,
    SeparationSettings,
    SourceAudio,
    StemSet,
    TrackRef,
    TrackReport,
    Value,
    track_label,
)
from tasks.errors import IncompleteSeparation

if TYPE_CHECKING:
    from tasks.quality.calibration import Calibration
    from tasks.recording import Library
    from tasks.separation.engine import Engine
    from tasks.separation.request import Callbacks


class Ingested(Value):
    """A track whose bytes are on the local disk."""

    audio: SourceAudio

    @property
    def ref(self) -> TrackRef:
        return self.audio.ref

    @property
    def label(self) -> str:
        """ "Artist – Title"; the catalog's words win over the tags'."""
        words = self.audio.words
        return track_label(words.artist, words.title, self.ref.source)

    @property
    def genre(self) -> str:
        return self.audio.words.genre


class Normalized(Ingested):
    """A track as lossless audio at the model's rate."""

    mixture: Mixture

    def credited_to(self, audio: SourceAudio) -> Self:
        """The same as another source with the same audio."""
        mixture = self.mixture.credited_to(audio)
        return self.model_copy(update={"audio": audio, "mixture": mixture})


class Separated(Normalized):
    """A track and its stems; `remade` are those that were made a second time."""

    stem_set: StemSet
    remade: frozenset[str] = frozenset()


class Incomplete(Separated):
    """A track some of whose stems, `missing`, have to be made again; `found` says why."""

    missing: frozenset[str]
    found: str


class Validated(Separated):
    """A track whose stems are all there and whole.

    `measured` is a `tasks.quality.TrackMeasures`, which importing would cost every command.
    """

    completeness: Completeness
    measured: Any


class Scored(Validated):
    """A track of whose separation is known how good it is."""

    quality: QualityReport


def ingest(ref: TrackRef, scratch: Path, policy: IngestPolicy) -> Ingested:
    """Fetch a track's bytes to the local disk; see `tasks.sources.ingest`."""
    from tasks.sources import ingest

    scratch.mkdir(parents=True, exist_ok=True)
    return Ingested(audio=ingest(ref, scratch, policy))


def normalize(given: Ingested, scratch: Path, policy: AudioPolicy) -> Normalized:
    """Decode any codec to the lossless mixture; see `tasks.normalize.normalize`."""
    from tasks.normalize import normalize

    folder = scratch / "separation"
    folder.mkdir(exist_ok=True)
    return Normalized(audio=given.audio, mixture=normalize(given.audio, folder, policy))


def separate(
    given: Normalized | Incomplete,
    engine: Engine,
    settings: SeparationSettings,
    *,
    deadline_s: float | None = None,
    callbacks: Callbacks | None = None,
) -> Separated:
    """Make the stems beside the mixture, or those again that are missing; see `Engine.separate`."""
    from tasks.separation.joining import join_stem_sets
    from tasks.separation.request import Callbacks, SeparationRequest

    again = given if isinstance(given, Incomplete) else None
    made = engine.separate(
        SeparationRequest(
            given.mixture,
            given.mixture.path.parent,
            settings,
            only=again.missing if again else frozenset(),
            gain=again.stem_set.gain if again else None,
            deadline_s=deadline_s,
            callbacks=callbacks or Callbacks(),
        )
    )
    return Separated(
        audio=given.audio,
        mixture=given.mixture,
        stem_set=join_stem_sets(again.stem_set, made) if again else made,
        remade=again.missing if again else frozenset(),
    )


def validate(
    given: Separated, policy: CompletenessPolicy, quality: QualityPolicy
) -> Validated | Incomplete:
    """Check that every stem is there and whole; see `tasks.validation.check_completeness`.

    Decoding is most of it, so what `score` needs is measured on the way.

    Args:
        given: The stems.
        policy: When they count as whole.
        quality: Which of them count as absent from the track.

    Raises:
        IncompleteSeparation: One isn't, and making it again can't help or has been tried.
    """
    from tasks.quality import measures_of
    from tasks.validation import check_completeness

    stem_set = given.stem_set
    measures = measures_of(stem_set.expected, quality, all_stems=stem_set.all_stems)
    found = check_completeness(given.mixture, stem_set, policy, (measures,))
    carried = {name: getattr(given, name) for name in Separated.model_fields}
    if found.complete:
        return Validated(**carried, completeness=found, measured=measures.result())
    if given.remade or not found.missing:
        raise IncompleteSeparation(
            f"the separation is incomplete: {found.in_words}.",
            missing=found.missing,
            remedy="Run the same command again, or try another engine (--provider)."
            if found.missing
            else "Listen to what the stems leave; completeness.max_residual_db sets the limit.",
        )
    return Incomplete(**carried, missing=frozenset(found.missing), found=found.in_words)


def score(given: Validated, policy: QualityPolicy) -> Scored:
    """Score the separation without ground truth; see `tasks.quality.score_measures`."""
    from tasks.quality import score_measures

    mixture, stem_set = given.mixture, given.stem_set
    quality = score_measures(
        given.measured,
        policy,
        model=stem_set.model,
        genre=given.genre,
        source_damaged_s=mixture.source_damaged_s if mixture.source_damages else None,
    )
    carried = {name: getattr(given, name) for name in Validated.model_fields}
    return Scored(**carried, quality=quality)


def report(
    given: Scored,
    settings: SeparationSettings,
    run: Run,
    *,
    pipeline_s: float = 0.0,
    attempts: int = 1,
    calibration: Calibration | None = None,
) -> TrackReport:
    """Gather all that is known of a track. The catalog's words win over the tags'."""
    stem_set, quality = given.stem_set, given.quality
    if calibration is not None:
        quality = calibration.place(quality, model=stem_set.model, genre=given.genre)
    return TrackReport(
        track_id=given.mixture.track_id,
        separation_id=stem_set.separation_id,
        source=given.ref.source,
        fingerprint=given.audio.fingerprint,
        **dict(given.audio.words),
        duration_s=given.mixture.duration_s,
        mixture=given.mixture,
        settings=settings,
        stem_set=stem_set,
        completeness=given.completeness,
        quality=quality,
        pipeline_s=pipeline_s,
        attempts=attempts,
        run=run,
    )


def record(
    made: TrackReport, folder: Path, library: Library, *, replace: bool = False
) -> TrackReport:
    """Commit the folder to the library; return the report that is there now.

    The rows of the tables are written for many tracks at once: `Library.write_rows`.
    """
    return library.commit(folder, made, replace=replace)
