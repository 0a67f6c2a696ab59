"""What a library has settled already, so that nobody finds it out again."""

from __future__ import annotations

import logging

from tasks.contracts import Failure, TrackRef
from tasks.errors import CorruptAudio, EmptyAudio, NotAudio, TransientError
from tasks.outcome import Failed, Place, Skipped
from tasks.recording import Library, LibraryIndex
from tasks.sources import fingerprint, source_of

log = logging.getLogger(__name__)

# Only these are about the very bytes. What was missing may be there now, what was not allowed may
# be now, and a limit may have been raised: asking again is cheap.
_SETTLED = (NotAudio, CorruptAudio, EmptyAudio)


class KnownTracks:
    """Finished tracks, and failures that would only repeat themselves.

    Args:
        library: Where separations are.
        index: Its snapshot.
        accepted_ids: Separations that count as done, the one that would be made first.
        force: Nothing counts as done or failed.
        retry_failed: Nothing counts as failed.
    """

    def __init__(
        self,
        library: Library,
        index: LibraryIndex,
        accepted_ids: tuple[str, ...],
        *,
        force: bool = False,
        retry_failed: bool = False,
    ) -> None:
        self._library = library
        self._index = index
        self._accepted_ids = () if force else accepted_ids
        self._retry_failed = retry_failed or force
        self._said: set[Place] = set()

    def __len__(self) -> int:
        return len(self._index)

    def finished(self, track_id: str) -> Place | None:
        """Return the separation of that track that the library has, or None."""
        for name in self._accepted_ids:
            if self._whole(track_id, name):
                return track_id, name
        return None

    def _whole(self, track_id: str, separation_id: str) -> bool:
        """Tell whether it is finished; of what has lost files say so, once."""
        lost = self._library.lost(track_id, separation_id)
        if lost and (track_id, separation_id) not in self._said:
            self._said.add((track_id, separation_id))
            log.warning(
                "%s has lost %s (gone, empty or cut short): the track is separated again.",
                self._library.folder(track_id, separation_id),
                ", ".join(lost),
            )
        return lost == ()

    def outcome_of(self, ref: TrackRef) -> Skipped | Failed | None:
        """Return how a source that hasn't changed ended before, or None: nothing is fetched."""
        mark = fingerprint(ref)
        for name in self._accepted_ids:
            track_id = self._index.find(ref.source, mark, name)
            if track_id and self._is_finished(track_id, name):
                # A catalog may say more of a source than was known when it was separated.
                return Skipped((track_id, name), remembered=self._index.covers(ref))
        earlier = None if self._retry_failed else self._failure_of(ref, mark)
        return Failed(earlier, remembered=True) if earlier else None

    def _failure_of(self, ref: TrackRef, mark: str) -> Failure | None:
        """A file counts as the same while its size and time are; a URL always does."""
        earlier = self._index.failed(ref.source, mark)
        if earlier is None or not earlier.is_a(*_SETTLED):
            return None
        if source_of(ref).is_local and (not mark or earlier.fingerprint != mark):
            return None
        return earlier

    def _is_finished(self, track_id: str, separation_id: str) -> bool:
        try:
            return self._whole(track_id, separation_id)
        except TransientError:
            # The normalize stage asks again, with retries: not a reason to end a run here.
            return False
