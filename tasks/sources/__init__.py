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
from tasks.sources.kinds import Fetched, Note, Row, Source, register, source_for, source_of
from tasks.sources.manifest import Manifest
from tasks.sources.objects import Objects
from tasks.sources.reading import from_argument, missing_of, read_catalog
from tasks.sources.stdin import Stdin
from tasks.sources.ytdlp import Ytdlp

# The last is asked first whether a source is its own: a folder is one whatever its name ends in.
for _kind in (File, Objects, Ytdlp, Http, Manifest, Folder, Stdin):
    register(_kind)

__all__ = [
    "Fetched",
    "Note",
    "Row",
    "Source",
    "fingerprint",
    "from_argument",
    "ingest",
    "missing_of",
    "read_catalog",
    "register",
    "source_for",
    "source_of",
]
