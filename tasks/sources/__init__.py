"""Sources into tracks, and tracks into bytes on the local disk.

`read_catalog` expands files, folders, object stores, pages, playlists, manifests and stdin into
tracks, lazily from end to end: a catalog of a million rows is never held in memory. `ingest`
fetches one track; downloads resume, are bounded (size, time, stalls, duration) and rate-limited
per host. Each kind of source is one class (`kinds.py`), in a file of its name.
"""

from tasks.sources.fetching import fingerprint, ingest
from tasks.sources.file import File
from tasks.sources.folder import Folder
from tasks.sources.http import Http
from tasks.sources.kinds import Fetched, Row, Source, register, source_for, source_of
from tasks.sources.manifest import Manifest
from tasks.sources.objects import Objects
from tasks.sources.reading import missing_of, read_catalog
from tasks.sources.stdin import Stdin
from tasks.sources.ytdlp import Ytdlp

# The last is asked first whether a source is its own.
for _kind in (File, Folder, Objects, Ytdlp, Http, Manifest, Stdin):
    register(_kind)

__all__ = [
    "Fetched",
    "Row",
    "Source",
    "fingerprint",
    "ingest",
    "missing_of",
    "read_catalog",
    "register",
    "source_for",
    "source_of",
]
