"""`ingest`: a `TrackRef` into a `SourceAudio`, whichever way its source has to be fetched."""

from __future__ import annotations

from pathlib import Path

from tasks.contracts import IngestPolicy, SourceAudio, TrackRef
from tasks.errors import (
    SourceRefused,
    StemwrightError,
    from_os_error,
)
from tasks.sources import local_files
from tasks.sources.fetched import Fetched
from tasks.sources.tags import filled, read_tags

_LOCAL_SCHEMES = ("memory",)


def ingest(ref: TrackRef, scratch: Path, policy: IngestPolicy) -> SourceAudio:
    """Bring a track's bytes onto the local disk, within the policy.

    A local file stays where it is. Anything else is downloaded into `scratch`, the track's own
    existing folder; what a killed or failed download left there is resumed. On an error nothing
    but resumable parts stays in `scratch`.

    Returns:
        The file, with the tags of the page it came from and, where those are silent, its own.

    Raises:
        SourceMissing: no such file, object or page.
        SourceUnreadable: it may not be read (permissions, 401, 403), or the site won't give it.
        SourceRefused: over a limit of the policy, a live stream, offline, a private address.
        NotAudio, EmptyAudio: a page without audio; no bytes.
        SettingsError: an fsspec driver is missing; names the `pip install`.
        NetworkError, RateLimited, ServiceError: these can pass; calling again resumes.
        DiskFull: the scratch disk is full.
    """
    try:
        fetched = _fetch(ref, scratch, policy)
        tags = filled(fetched.tags, read_tags(fetched.path))
    except StemwrightError as error:
        raise error.with_context(track=ref.label, stage="ingest") from error.__cause__
    except OSError as error:
        raise from_os_error(error, track=ref.label, stage="ingest") from error
    return SourceAudio(
        ref=ref,
        path=fetched.path,
        in_scratch=ref.kind != "file",
        bytes=fetched.path.stat().st_size,
        fingerprint=fetched.fingerprint,
        tags=tags,
    )


def fingerprint(ref: TrackRef) -> str:
    """Size and time of a local file, which change when it does; "" for anything else."""
    return local_files.fingerprint(Path(ref.source)) if ref.kind == "file" else ""


def _fetch(ref: TrackRef, scratch: Path, policy: IngestPolicy) -> Fetched:
    if ref.kind == "file":
        return local_files.checked(Path(ref.source), policy)
    scheme = ref.source.split("://", 1)[0].lower()
    if policy.offline and scheme not in _LOCAL_SCHEMES:
        raise SourceRefused(
            "it is on the network, and this run is offline.", remedy="Leave --offline out."
        )
    if ref.kind == "fsspec":
        from tasks.sources import object_stores

        return object_stores.copy(ref.source, scratch, policy)
    from tasks.sources import web

    return web.fetch(ref.source, scratch, policy)
