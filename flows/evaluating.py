"""Separations held against reference stems: how good they are, and how well the score knew it."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from flows.reference_stems import ReferenceTrack, mixture_of, reference_stems_of
from tasks.contracts import MaybeFloat, QualityReport, StemSet, Value
from tasks.errors import IncompleteSeparation, SettingsError, StemwrightError
from tasks.quality.reference import Agreement, StemTruth, agreement, compare

if TYPE_CHECKING:
    from flows.runner.setup import Prepared
    from tasks.contracts import Mixture
    from tasks.recording import Library


class StemResult(Value):
    """A stem: the truth (`sdr_db`, `si_sdr_db`) beside what was estimated without it."""

    sdr_db: MaybeFloat = None
    si_sdr_db: MaybeFloat = None
    true_stem_silent: bool = False
    estimated_si_sdr_db: MaybeFloat = None
    estimated_si_sdr_low_db: MaybeFloat = None
    estimated_si_sdr_high_db: MaybeFloat = None
    score: MaybeFloat = None
    verdict: str = ""


class TrackResult(Value):
    """A track's stems, or why it could not be evaluated."""

    track: str
    model: str = ""
    duration_s: float = 0.0
    separation_s: float = 0.0
    stems: dict[str, StemResult] = Field(default_factory=dict)
    error: str = ""


class StemSummary(Value):
    """One stem over all tracks: medians over tracks, of SDR a median of medians as in SiSEC."""

    tracks: int
    sdr_db: MaybeFloat
    si_sdr_db: MaybeFloat
    estimated_si_sdr_db: MaybeFloat
    agreement: Agreement


class Evaluation(BaseModel):
    """What `evaluate` found. `mean_sdr_db` is the mean of the stems' medians."""

    model: str
    separation_id: str = ""
    device: str = ""
    interrupted: bool = False
    tracks: list[TrackResult] = []

    @property
    def failed(self) -> list[TrackResult]:
        return [track for track in self.tracks if track.error]

    @property
    def stems(self) -> dict[str, StemSummary]:
        """By stem, in the order in which they first came."""
        names = dict.fromkeys(name for track in self.tracks for name in track.stems)
        return {name: self._summary(name) for name in names}

    @property
    def agreement(self) -> Agreement:
        """Of the estimated with the true SI-SDRs, over the stems of all tracks."""
        return _agreement(stem for track in self.tracks for stem in track.stems.values())

    @property
    def mean_sdr_db(self) -> float | None:
        known = [stem.sdr_db for stem in self.stems.values() if stem.sdr_db is not None]
        return statistics.fmean(known) if known else None

    def _summary(self, name: str) -> StemSummary:
        stems = [track.stems[name] for track in self.tracks if name in track.stems]
        return StemSummary(
            tracks=sum(stem.si_sdr_db is not None for stem in stems),
            sdr_db=_median(stem.sdr_db for stem in stems),
            si_sdr_db=_median(stem.si_sdr_db for stem in stems),
            estimated_si_sdr_db=_median(stem.estimated_si_sdr_db for stem in stems),
            agreement=_agreement(stems),
        )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _agreement(stems: Iterable[StemResult]) -> Agreement:
    pairs = [
        (stem.estimated_si_sdr_db, stem.si_sdr_db, stem)
        for stem in stems
        if stem.estimated_si_sdr_db is not None and stem.si_sdr_db is not None
    ]
    return agreement(
        [estimated for estimated, _, _ in pairs],
        [true for _, true, _ in pairs],
        [(s.estimated_si_sdr_low_db, s.estimated_si_sdr_high_db) for _, _, s in pairs],
    )


# --- what separates, or has separated -------------------------------------------------------------

Evaluator = Callable[[ReferenceTrack, Path], TrackResult]
"""Evaluates one track, in a scratch folder that is removed afterwards."""


def evaluate_each(tracks: Sequence[ReferenceTrack], evaluate: Evaluator) -> Iterator[TrackResult]:
    """Evaluate tracks one by one. One that can't be evaluated says why, and stops no other."""
    for track in tracks:
        scratch = Path(tempfile.mkdtemp(prefix="stemwright-evaluate-"))
        try:
            yield evaluate(track, scratch)
        except StemwrightError as error:
            yield TrackResult(track=track.name, error=f"{error.cause} {error.remedy}".strip())
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def by_separating(prepared: Prepared) -> Evaluator:
    """Separate each track with the model and engine chosen, as a run would."""
    from tasks.separation.request import SeparationRequest

    settings = prepared.settings

    def evaluate(track: ReferenceTrack, scratch: Path) -> TrackResult:
        from tasks.quality import score_separation

        mixture = mixture_of(track, scratch, settings.audio_policy())
        made = prepared.engine.separate(
            SeparationRequest(
                mixture,
                scratch,
                settings.separation,
                deadline_s=settings.engine.deadline_seconds or None,
            )
        )
        if missing := [name for name in made.expected if name not in made.stems]:
            raise IncompleteSeparation(f"no engine made {', '.join(missing)}.")
        quality = score_separation(
            mixture.path,
            made.stems,
            settings.quality,
            gain=made.gain,
            all_stems=made.all_stems,
            model=made.model,
        )
        prepared.engine.release(mixture.track_id)
        return _result(track, mixture, made, quality, scratch)

    return evaluate


def from_library(library: Library, model: str = "") -> Evaluator:
    """Take each track's newest separation (by `model`, if named) from a library.

    Raises:
        SettingsError: The library isn't a folder on this machine.
    """
    if not library.is_local:
        raise SettingsError(
            f"{library.url} is no folder on this machine.",
            remedy="Copy it here first: its stems have to be read whole.",
        )
    frame = library.tracks()
    if model:
        frame = frame[frame["model"] == model]
    newest = {row["track_id"]: row["separation_id"] for row in frame.to_dict("records")}

    def evaluate(track: ReferenceTrack, scratch: Path) -> TrackResult:
        from tasks.normalize import identify

        if track.mixture is None:
            raise IncompleteSeparation("it has no mixture file to be known by.")
        track_id = identify(track.mixture)
        if track_id not in newest:
            raise IncompleteSeparation(
                f"{library.url} has no separation of its mixture"
                + (f" by {model}." if model else "."),
                remedy=f"Make it: stemwright separate {track.mixture}",
            )
        report = library.report(track_id, newest[track_id])
        folder = Path(library.folder(track_id, newest[track_id]))
        stems = {name: folder / path for name, path in report.stem_set.stems.items()}
        made = report.stem_set.model_copy(update={"stems": stems})
        return _result(track, report.mixture, made, report.quality, scratch)

    return evaluate


def _result(
    track: ReferenceTrack, mixture: Mixture, made: StemSet, quality: QualityReport, scratch: Path
) -> TrackResult:
    names = [name for name in made.expected if name in track.stems]
    true = reference_stems_of(track, names, mixture, scratch / "true")
    truth = compare(
        true.paths, made.stems, gain=made.gain * mixture.gain, reference_gains=true.gains
    )
    return TrackResult(
        track=track.name,
        model=made.model,
        duration_s=mixture.duration_s,
        separation_s=made.separation_s,
        stems={name: _stem(found, quality, name) for name, found in truth.items()},
    )


def _stem(truth: StemTruth, quality: QualityReport, name: str) -> StemResult:
    blind = quality.stems.get(name)
    return StemResult(
        sdr_db=truth.sdr_db,
        si_sdr_db=truth.si_sdr_db,
        true_stem_silent=truth.silent,
        **(blind.model_dump(include=set(StemResult.model_fields)) if blind else {}),
    )
