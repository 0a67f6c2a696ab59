"""Bytes onto the local disk: files as they are, downloads into a track's scratch folder.

Downloads resume, are bounded (size, time, stalls, duration) and rate-limited per host.
"""

from tasks.ingest.fetching import fingerprint, ingest

__all__ = ["fingerprint", "ingest"]
