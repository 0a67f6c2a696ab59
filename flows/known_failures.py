"""What earlier runs settled for good, so that this one needn't find it out again."""

from __future__ import annotations

from tasks.contracts import Failure, TrackRef
from tasks.recording import LibraryIndex
from tasks.sources import fingerprint, source_of

# Only these are about the very bytes. What was missing may be there now, what was not allowed may
# be now, and a limit may have been raised: asking again is cheap.
SETTLED = frozenset({"NotAudio", "CorruptAudio", "EmptyAudio"})


def remembered_failure(ref: TrackRef, index: LibraryIndex) -> Failure | None:
    """The failure that the same bytes had earlier and will have again, or None.

    A file counts as the same while its size and time are; a URL always does.
    """
    mark = fingerprint(ref)
    earlier = index.failed(ref.source, mark)
    if earlier is None or earlier.error_type not in SETTLED:
        return None
    if source_of(ref).is_local and (not mark or earlier.fingerprint != mark):
        return None
    return earlier
