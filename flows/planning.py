"""What a run would do, found out without doing any of it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from blocks.settings import StemwrightSettings
from flows.runner.setup import prepare
from tasks.contracts import Failure, TrackRef
from tasks.errors import SourceRefused, StemwrightError, WeightsMissing
from tasks.known_tracks import KnownTracks
from tasks.outcome import Failed, Skipped
from tasks.recording import Library
from tasks.separation.routing import Candidate, Route

KEPT = 10_000

# Seconds of audio a second, where this library has measured nothing yet. For htdemucs on CPUs
# the published figure is 1.5 times a track's duration, on GPUs 20 to 50 times real time.
ASSUMED_SPEED = {"local_cpu": 0.6, "local_gpu": 20.0, "cloud": 2.0}
ASSUMED_SPEED_EMBEDDED = 8.0

# FLAC keeps about two thirds of 24-bit PCM; measured on music, so that a disk isn't undersized.
FLAC_SHARE = 0.7
BYTES_A_SAMPLE = {"16": 2, "24": 3, "32f": 4}


class PlannedTrack(BaseModel):
    """What would become of one track: separate, already, duplicate, refused, or unseen.

    "unseen" is a source that would have to be fetched to be looked at; it would be separated.
    """

    source: str
    label: str
    action: str
    track_id: str | None = None
    duration_s: float | None = None
    why: str = ""


class Plan(BaseModel):
    """What `separate` would do with the same arguments."""

    library: str
    model: str
    separation_id: str
    """Empty where the weights aren't here."""
    to_fetch: str = ""
    """The weights that have to be fetched first; empty if they are here."""
    engine: str
    provider: str = "local"
    device: str
    reasons: list[str]
    engines: tuple[Candidate, ...] = ()
    found: int = 0
    to_separate: int = 0
    already: int = 0
    duplicates: int = 0
    refused: int = 0
    unseen: int = 0
    audio_s: float = 0.0
    speed: float
    speed_measured: bool
    estimated_s: float = 0.0
    estimated_bytes: int = 0
    free_bytes: int | None = None
    estimated_cost_usd: float | None = None
    tracks: list[PlannedTrack] = []


@dataclass(frozen=True)
class Outlook:
    """What a run would work with. Nothing is downloaded to find that out.

    Attributes:
        settings: What is set.
        route: The engine, and why that one.
        model: The model's name.
        stems: The stems that it makes.
        accepted_ids: Separations that count as done; none are known without weights.
        price_usd: What the engine asks for seconds of audio.
        to_fetch: The weights that would have to be fetched first; empty if they are here.
    """

    settings: StemwrightSettings
    route: Route
    model: str
    stems: tuple[str, ...]
    accepted_ids: tuple[str, ...] = ()
    price_usd: Callable[[float], float] = lambda audio_s: 0.0
    to_fetch: str = ""

    @classmethod
    def of(cls, settings: StemwrightSettings) -> Outlook:
        """Find it out.

        Raises:
            UnknownModel, WeightsMissing, WeightsRefused, SettingsError: What is set can't work, or
                not without weights that an offline run can't fetch.
        """
        try:
            prepared = prepare(settings, fetch=False)
        except WeightsMissing:
            if settings.engine_options().offline:
                raise
            return cls._without_weights(settings)
        return cls(
            settings=settings,
            route=prepared.route,
            model=prepared.model,
            stems=tuple(prepared.engine.info.sources),
            accepted_ids=prepared.accepted_ids,
            price_usd=lambda audio_s: prepared.engine.price_usd(audio_s, settings.separation),
        )

    @classmethod
    def _without_weights(cls, settings: StemwrightSettings) -> Outlook:
        from tasks.separation.factory import plan_route
        from tasks.separation.models import list_models

        options = settings.engine_options()
        name = settings.separation.model
        stems = {entry.name: entry.stems for entry in list_models(options.models_dir)}
        return cls(
            settings=settings,
            route=plan_route(options),
            model=name,
            stems=tuple(stems.get(name, ())),
            to_fetch=f"the weights of {name}, by the run or `stemwright models fetch {name}`",
        )


def make_plan(
    refs: Iterable[TrackRef | Failure],
    outlook: Outlook,
    *,
    force: bool = False,
    retry_failed: bool = False,
) -> Plan:
    """Look at every track, read none further than its packets, and add up what is ahead."""
    library, route = Library(outlook.settings.library), outlook.route
    speed, measured = _speed(library, outlook)
    plan = Plan(
        library=library.url,
        model=outlook.model,
        separation_id=outlook.accepted_ids[0] if outlook.accepted_ids else "",
        to_fetch=outlook.to_fetch,
        engine=route.engine,
        provider=route.provider,
        device=route.device,
        reasons=list(route.reasons),
        engines=route.candidates,
        speed=speed,
        speed_measured=measured,
        free_bytes=_free(library),
    )
    known = KnownTracks(
        library, library.index(), outlook.accepted_ids, force=force, retry_failed=retry_failed
    )
    look = _Look(outlook.settings, known)
    counts: Counter[str] = Counter()
    for ref in refs:
        track = look.at(ref)
        counts[track.action] += 1
        if track.action == "separate":
            plan.audio_s += track.duration_s or 0.0
        if len(plan.tracks) < KEPT:
            plan.tracks.append(track)
    plan.found = counts.total()
    plan.unseen = counts["unseen"]
    plan.to_separate = counts["separate"] + counts["unseen"]
    plan.already, plan.duplicates = counts["already"], counts["duplicate"]
    plan.refused = counts["refused"]
    plan.estimated_s = plan.audio_s / speed
    plan.estimated_cost_usd = _cost(plan.audio_s, outlook)
    plan.estimated_bytes = _bytes(plan.audio_s, outlook)
    return plan


class _Look:
    """Looks at one track after the other, and remembers which audio it has seen."""

    def __init__(self, settings: StemwrightSettings, known: KnownTracks) -> None:
        self._settings = settings
        self._known = known
        self._seen: set[str] = set()

    def at(self, ref: TrackRef | Failure) -> PlannedTrack:
        if isinstance(ref, Failure):
            return PlannedTrack(
                source=ref.source, label=ref.label, action="refused", why=ref.message
            )
        try:
            return self._at(ref)
        except StemwrightError as error:
            return PlannedTrack(
                source=ref.source, label=ref.label, action="refused", why=error.cause
            )

    def _at(self, ref: TrackRef) -> PlannedTrack:
        from tasks.normalize import duration_s, identify
        from tasks.sources import ingest, source_of

        planned = PlannedTrack(source=ref.source, label=ref.label, action="separate")
        match self._known.outcome_of(ref):
            case Skipped((track_id, _)):
                return planned.model_copy(update={"action": "already", "track_id": track_id})
            case Failed(failure):
                why = f"failed earlier: {failure.message} (--retry-failed tries it again)"
                return planned.model_copy(update={"action": "refused", "why": why})
        if not source_of(ref).is_local:
            why = "has to be fetched to be looked at"
            return planned.model_copy(update={"action": "unseen", "why": why})
        # A local file is only looked at here, and stays where it is.
        path = ingest(ref, Path(), self._settings.ingest_policy()).path
        seconds = duration_s(path)
        self._refuse_long(seconds)
        track_id = identify(path)
        action, why = "separate", ""
        if self._known.finished(track_id):
            action, why = "already", "the same audio is in the library"
        elif track_id in self._seen:
            action, why = "duplicate", "the same audio as an earlier track"
        self._seen.add(track_id)
        return planned.model_copy(
            update={"action": action, "track_id": track_id, "duration_s": seconds, "why": why}
        )

    def _refuse_long(self, seconds: float | None) -> None:
        longest = self._settings.ingest.max_duration_s
        if seconds is not None and seconds > longest:
            raise SourceRefused(
                f"it lasts {seconds:.0f} s, over the limit of {longest:.0f} s "
                "(ingest.max_duration_s)."
            )


def _speed(library: Library, outlook: Outlook) -> tuple[float, bool]:
    """Seconds of audio a second: what this library saw of the same model and device, or a guess."""
    frame = library.tracks()
    here = frame["device"].isin(outlook.route.device.split(","))
    same = frame[(frame["model"] == outlook.model) & here]
    measured = same["realtime_factor"].dropna()
    if len(measured):
        return float(measured.tail(200).median()), True
    if outlook.model == "embedded":
        return ASSUMED_SPEED_EMBEDDED, False
    return ASSUMED_SPEED[outlook.route.engine], False


def _cost(audio_s: float, outlook: Outlook) -> float | None:
    """What the first engine asks for so much audio; None where nobody has said its price."""
    if outlook.route.engine != "cloud":
        return 0.0
    return outlook.price_usd(audio_s) or None


def _bytes(audio_s: float, outlook: Outlook) -> int:
    wanted = outlook.settings.separation
    files = len(wanted.stems or outlook.stems) + 1
    share = FLAC_SHARE if wanted.format == "flac" else 1.0
    return int(audio_s * 44_100 * 2 * BYTES_A_SAMPLE[wanted.bit_depth] * files * share)


def _free(library: Library) -> int | None:
    if "://" in library.url:
        return None
    place = Path(library.url).resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
