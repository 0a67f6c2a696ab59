"""Sources into tracks: files, folders, object stores, pages and playlists, manifests, stdin.

`read_catalog` is lazy from end to end: a catalog of a million rows is never held in memory.
"""

from tasks.catalog.reading import read_catalog
from tasks.catalog.suffixes import AUDIO_SUFFIXES, CATALOG_SUFFIXES

__all__ = ["AUDIO_SUFFIXES", "CATALOG_SUFFIXES", "read_catalog"]
