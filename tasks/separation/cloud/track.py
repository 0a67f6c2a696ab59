"""One track at a provider: at most two jobs, and from what they gave a set of stems."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import InputError, SubmitUnclear
from tasks.separation.cloud.answers import JobFailed, names_no_stems
from tasks.separation.cloud.job_runner import JobResult, JobRunner, together
from tasks.separation.cloud.job_store import Entry
from tasks.separation.cloud.providers.base import CloudProvider
from tasks.separation.cloud.stem_check import keep, write_silence
from tasks.separation.deadline import Watch
from tasks.separation.request import SeparationRequest

log = logging.getLogger(__name__)


@dataclass
class Track:
    """One call of `separate`, as far as it has come."""

    request: SeparationRequest
    wanted: tuple[str, ...]
    watch: Watch = field(init=False)
    share: float = 0.0

    def __post_init__(self) -> None:
        # No deadline yet: it counts from when a job may be made.
        self.watch = Watch(self.request.label, None, self.request.callbacks.stopping)

    @property
    def regenerates(self) -> bool:
        """Whether stems are made again."""
        return bool(self.request.only)

    def on_progress(self, share: float) -> None:
        self.share = max(self.share, share)
        self.request.callbacks.on_progress(self.share)

    def check(self) -> None:
        self.watch.check(self.share)


@dataclass(frozen=True)
class Made:
    """What came of a track: files by stem, who made each, their gain and their price."""

    stems: dict[str, Path]
    origins: dict[str, str]
    gain: float
    cost_usd: float


class Memory:
    """What one engine knows of its tracks until they are released. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetched: dict[str, list[Entry]] = {}
        self._in_vain: dict[str, set[str]] = {}

    def fetched(self, track_id: str, entry: Entry) -> None:
        """This job's stems were fetched."""
        with self._lock:
            self._fetched.setdefault(track_id, []).append(entry)

    def asked_in_vain(self, track_id: str, stems: Iterable[str]) -> None:
        """These stems were asked for as often as they may be."""
        with self._lock:
            self._in_vain.setdefault(track_id, set()).update(stems)

    def was_in_vain(self, track_id: str, stems: Iterable[str]) -> bool:
        with self._lock:
            return set(stems) <= self._in_vain.get(track_id, set())

    def release(self, track_id: str) -> list[Entry]:
        """Forget a track; the jobs that were fetched for it."""
        with self._lock:
            self._in_vain.pop(track_id, None)
            return self._fetched.pop(track_id, [])


async def make(
    track: Track, runner: JobRunner, memory: Memory, provider: CloudProvider, label: str
) -> Made:
    """Have a track's stems made and put into its folder.

    Args:
        label: What reports call the provider.

    Raises:
        ProtocolError: Complete, twice, and without any stem.
        Others: As `JobRunner.run`.
    """
    request = track.request
    track_id = request.mixture.track_id
    if track.regenerates and memory.was_in_vain(track_id, track.wanted):
        words = "%s: %s was asked for twice in vain"
        log.warning(words, request.label, ", ".join(track.wanted))
        return Made({}, {}, 1.0 if request.gain is None else request.gain, 0.0)
    results = [await runner.run(track.wanted)]
    missing = _missing(track, results)
    if missing and not track.regenerates:
        await _ask_once_more(track, runner, results, missing)
    if left := _missing(track, results):
        memory.asked_in_vain(track_id, left)
    useful = [result for result in results if result.names]
    for result in results:
        if result in useful:
            memory.fetched(track_id, result.entry)
        else:
            await runner.drop(result.entry)
    cost_usd = sum(_cost_usd(each, provider) for each in results)
    if not useful and not track.regenerates:
        error = names_no_stems(results[-1].job.job_id)
        error.cost_usd = cost_usd
        raise error
    stems, gain = await _put(request, useful)
    track.on_progress(1.0)
    stems = {name: stems[name] for name in track.wanted if name in stems}
    absent = {name for result in useful for name in result.absent}
    origins = {name: f"{label}: not detected" if name in absent else label for name in stems}
    return Made(stems, origins, gain, cost_usd)


async def _ask_once_more(
    track: Track, runner: JobRunner, results: list[JobResult], missing: tuple[str, ...]
) -> None:
    """Have another job make what the first one didn't."""
    first, label = results[0], track.request.label
    log.info("%s: asking once more for %s", label, ", ".join(missing))
    if not first.names:
        # Nothing of it is any use, so no later run should go on with it.
        await runner.drop(first.entry)
    try:
        results.append(await runner.run(missing))
    except (JobFailed, InputError, SubmitUnclear) as fault:
        if not first.names:
            raise
        # What the first job made still counts; somebody else may make the rest.
        words = "%s: %s can't be had here: %s"
        log.warning(words, label, ", ".join(missing), fault.cause)


async def _put(
    request: SeparationRequest, results: list[JobResult]
) -> tuple[dict[str, Path], float]:
    """Put stems into the track's folder, all with one gain."""
    folder, mixture = request.folder, request.mixture
    kind = (request.settings.format, request.settings.bit_depth)
    stems = [stem for result in results for stem in result.stems]
    # The smallest clips none of them; what is on the disk already is not to be changed.
    gain = min((stem.gain for stem in stems), default=1.0) if request.gain is None else request.gain
    files = await together(asyncio.to_thread(keep, stem, folder, *kind, gain) for stem in stems)
    paths = dict(zip((stem.name for stem in stems), files, strict=True))
    for name in (name for result in results for name in result.absent):
        paths[name] = await asyncio.to_thread(write_silence, name, mixture, folder, *kind)
    return paths, gain


def _missing(track: Track, results: list[JobResult]) -> tuple[str, ...]:
    here = {name for result in results for name in result.names}
    return tuple(name for name in track.wanted if name not in here)


def _cost_usd(result: JobResult, provider: CloudProvider) -> float:
    charged = result.job.cost_usd
    return provider.price_usd(result.request) if charged is None else charged
