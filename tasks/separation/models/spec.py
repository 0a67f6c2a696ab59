"""What every family says of a model: that it is known, and where it is ready to be loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.contracts import STEMS, Value

EMBEDDED = "embedded"
"""The model that comes with the package, so that something is always here."""

Origin = Literal["folder", "embedded", "hub"]


@dataclass(frozen=True)
class KnownModel:
    """A model that has a name, whether its weights are here or not.

    `published_sdr_db` is the mean SDR over its stems (of six, over vocals, drums, bass and other)
    on MUSDB18-HQ's test set as published (`sdr_source` says where, or why there is none).
    `size_bytes` is about what a fetch downloads; 0 for what comes with the package.
    """

    name: str
    description: str
    stems: tuple[str, ...] = STEMS
    published_sdr_db: float | None = None
    sdr_source: str = ""
    licence: str = "MIT"
    size_bytes: int = 0


class ModelSpec(Value):
    """A model that is on this machine and ready to be loaded.

    `weights_sha256` is the SHA-256 of its one file, or, for several, that of their hex digests
    joined in order. `segment_s` is the length of one forward in seconds; `bag_segment_s` is set
    only where the bag overrides it. `origin` says which search found it, `family` whose networks
    they are. `recipe_sha256` is set where more than weights and settings decides the output: how
    a family's library builds a model.
    """

    name: str
    family: str = "demucs"
    sources: tuple[str, ...]
    sample_rate_hz: int
    channels: int
    segment_s: float
    weights: tuple[Path, ...]
    weights_sha256: str
    bag_weights: tuple[tuple[float, ...], ...] | None = None
    bag_segment_s: float | None = None
    recipe_sha256: str | None = None
    size_bytes: int = 0
    licence: str = ""
    published_sdr_db: float | None = None
    origin: Origin


def combined_digest(digests: Sequence[str]) -> str:
    """One file's digest as it is; several as the SHA-256 over them joined."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode("ascii")).hexdigest()
