"""What a fetch hands on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tasks.contracts import Tags


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file on the local disk, what tells that its source changed, and its page's tags."""

    path: Path
    fingerprint: str = ""
    tags: Tags = field(default_factory=Tags)
