"""One track at a service: at most two jobs, and from what they gave a set of stems."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts import Mixture, Progress, SeparationSettings
from tasks.errors import InputError, SubmitUnclear
from tasks.separation.cloud.answers import JobFailed
from tasks.separation.cloud.api import names_no_stems
from tasks.separation.cloud.job_runner import Courier, Delivery, together
from tasks.separation.cloud.job_store import Entry
from tasks.separation.cloud.service import Service
from tasks.separation.cloud.stem_check import keep, write_silence
from tasks.separation.deadline import Watch

log = logging.getLogger(__name__)


@dataclass
class Track:
    """One call of `separate`, as far as it has come.

    `regenerates` says that stems are made again; `gain` is what those on the disk have.
    """

    mixture: Mixture
    folder: Path
    settings: SeparationSettings
    wanted: tuple[str, ...]
    regenerates: bool
    gain: float | None
    tell: Progress
    watch: Watch
    share: float = 0.0

    def told(self, share: float) -> None:
        self.share = max(self.share, share)
        self.tell(self.share)

    def look(self) -> None:
        self.watch.check(self.share)


@dataclass(frozen=True)
class Made:
    """What came of a track: files by stem, who made each, their gain and their price."""

    stems: dict[str, Path]
    origins: dict[str, str]
    gain: float
    cost_usd: float


class Memory:
    """What one separator knows of its tracks until they are settled. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._delivered: dict[str, list[Entry]] = {}
        self._in_vain: dict[str, set[str]] = {}

    def delivered(self, track_id: str, entry: Entry) -> None:
        """This job's stems were fetched."""
        with self._lock:
            self._delivered.setdefault(track_id, []).append(entry)

    def asked_in_vain(self, track_id: str, stems: Iterable[str]) -> None:
        """These stems were asked for as often as they may be."""
        with self._lock:
            self._in_vain.setdefault(track_id, set()).update(stems)

    def was_in_vain(self, track_id: str, stems: Iterable[str]) -> bool:
        with self._lock:
            return set(stems) <= self._in_vain.get(track_id, set())

    def settle(self, track_id: str) -> list[Entry]:
        """Forget a track; the jobs that were fetched for it."""
        with self._lock:
            self._in_vain.pop(track_id, None)
            return self._delivered.pop(track_id, [])


async def make(
    track: Track, courier: Courier, memory: Memory, service: Service, provider: str
) -> Made:
    """Have a track's stems made and put into its folder.

    Raises:
        ProtocolError: Complete, twice, and without any stem.
        Others: As `Courier.bring`.
    """
    track_id = track.mixture.track_id
    if track.regenerates and memory.was_in_vain(track_id, track.wanted):
        words = "%s: %s was asked for twice in vain"
        log.warning(words, track.mixture.ref.label, ", ".join(track.wanted))
        return Made({}, {}, 1.0 if track.gain is None else track.gain, 0.0)
    deliveries = [await courier.bring(track.wanted)]
    missing = _missing(track, deliveries)
    if missing and not track.regenerates:
        await _ask_once_more(track, courier, deliveries, missing)
    if left := _missing(track, deliveries):
        memory.asked_in_vain(track_id, left)
    useful = [delivery for delivery in deliveries if delivery.names]
    for delivery in deliveries:
        if delivery in useful:
            memory.delivered(track_id, delivery.entry)
        else:
            await courier.drop(delivery.entry)
    if not useful and not track.regenerates:
        job = deliveries[-1].entry.job
        assert job is not None
        error = names_no_stems(job)
        error.cost_usd = sum(_cost_usd(each, service) for each in deliveries)
        raise error
    stems, gain = await _put(track, useful)
    absent = {name for delivery in useful for name in delivery.absent}
    origins = {n: f"{provider}: not detected" if n in absent else provider for n in stems}
    return Made(stems, origins, gain, sum(_cost_usd(each, service) for each in deliveries))


async def _ask_once_more(
    track: Track, courier: Courier, deliveries: list[Delivery], missing: tuple[str, ...]
) -> None:
    """Have another job make what the first one didn't."""
    first, label = deliveries[0], track.mixture.ref.label
    log.info("%s: asking once more for %s", label, ", ".join(missing))
    if not first.names:
        # Nothing of it is any use, so no later run should go on with it.
        await courier.drop(first.entry)
    try:
        deliveries.append(await courier.bring(missing))
    except (JobFailed, InputError, SubmitUnclear) as fault:
        if not first.names:
            raise
        # What the first job made still counts; somebody else may make the rest.
        words = "%s: %s can't be had here: %s"
        log.warning(words, label, ", ".join(missing), fault.cause)


async def _put(track: Track, deliveries: list[Delivery]) -> tuple[dict[str, Path], float]:
    """Stems into the track's folder, all with one gain."""
    arrivals = [arrival for delivery in deliveries for arrival in delivery.arrivals]
    gains = [arrival.gain for arrival in arrivals]
    # The smallest clips none of them; what is on the disk already is not to be changed.
    gain = track.gain if track.gain is not None else min(gains, default=1.0)
    kind = (track.settings.format, track.settings.bit_depth)
    paths = await together(
        asyncio.to_thread(keep, arrival, track.folder, *kind, gain) for arrival in arrivals
    )
    stems = dict(zip((arrival.name for arrival in arrivals), paths, strict=True))
    for name in (name for delivery in deliveries for name in delivery.absent):
        silence = asyncio.to_thread(write_silence, name, track.mixture, track.folder, *kind)
        stems[name] = await silence
    track.told(1.0)
    return {name: stems[name] for name in track.wanted if name in stems}, gain


def _missing(track: Track, deliveries: list[Delivery]) -> tuple[str, ...]:
    here = {name for delivery in deliveries for name in delivery.names}
    return tuple(name for name in track.wanted if name not in here)


def _cost_usd(delivery: Delivery, service: Service) -> float:
    assert delivery.entry.order is not None
    charged = delivery.cost_usd
    return service.price_usd(delivery.entry.order) if charged is None else charged
