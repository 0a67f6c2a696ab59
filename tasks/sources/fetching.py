"""`ingest`: a `TrackRef` into a `SourceAudio`, whichever way its source has to be fetched."""

from __future__ import annotations

from pathlib import Path

from tasks.contracts import IngestPolicy, SourceAudio, TrackRef
from tasks.errors import SourceRefused, StemwrightError, from_os_error
from tasks.sources.guessing import with_guess
from tasks.sources.kinds import source_of
from tasks.sources.tags import filled, read_tags


def ingest(ref: TrackRef, scratch: Path, policy: IngestPolicy) -> SourceAudio:
    """Bring a track's bytes onto the local disk, within the policy.

    A local file stays where it is. Anything else is downloaded into `scratch`, the track's own
    existing folder; what a killed or failed download left there is resumed. On an error nothing
    but resumable parts stays in `scratch`.

    Returns:
        The file, with its own tags and, where those are silent, what the page, the server or the
        URL that it came from say, or at last its name.

    Raises:
        SourceMissing: No such file, object or page.
        SourceUnreadable: It may not be read (permissions, 401, 403), or the site won't give it.
        SourceRefused: Over a limit of the policy, a live stream, offline, a private address.
        NotAudio, EmptyAudio: A page without audio; no bytes.
        SettingsError: An fsspec driver is missing; names the `pip install`.
        NetworkError, RateLimited, ServiceError: These can pass; calling again resumes.
        DiskFull: The scratch disk is full.
    """
    try:
        source = source_of(ref)
        if policy.offline and source.needs_network(ref.source):
            raise SourceRefused(
                "it is on the network, and this run is offline.", remedy="Leave --offline out."
            )
        fetched = source.fetch(ref.address or ref.source, scratch, policy)
        own = read_tags(fetched.path, policy.tag_encoding)
        tags = with_guess(filled(own, fetched.tags), ref, own)
    except StemwrightError as error:
        raise error.with_context(track=ref.label, stage="ingest") from error.__cause__
    except OSError as error:
        raise from_os_error(error, track=ref.label, stage="ingest") from error
    return SourceAudio(
        ref=ref,
        path=fetched.path,
        in_scratch=not source.is_local,
        bytes=fetched.path.stat().st_size,
        fingerprint=fetched.fingerprint,
        tags=tags,
    )


def fingerprint(ref: TrackRef) -> str:
    """Return what changes when a track's source does, where that is cheap to say; else ""."""
    return source_of(ref).fingerprint(ref.source)
