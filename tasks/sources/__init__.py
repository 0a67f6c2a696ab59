"""Sources into tracks, and tracks into bytes on the local disk.

`read_catalog` expands files, folders, object stores, pages, playlists, manifests and stdin into
tracks, lazily from end to end: a catalog of a million rows is never held in memory. `ingest`
fetches one track; downloads resume, are bounded (size, time, stalls, duration) and rate-limited
per host.
"""

from tasks.sources.fetching import fingerprint, ingest
from tasks.sources.reading import read_catalog
from tasks.sources.suffixes import AUDIO_SUFFIXES, CATALOG_SUFFIXES

__all__ = ["AUDIO_SUFFIXES", "CATALOG_SUFFIXES", "fingerprint", "ingest", "read_catalog"]
