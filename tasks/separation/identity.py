"""The name of a separation: its model and a hash over all that changes the stems' bytes."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Protocol
from urllib.parse import urlsplit

from tasks.contracts import SeparationSettings

# Raised whenever the same settings begin to give samples that differ by more than rounding; part
# of every identity.
ALGORITHM = 1


class Weights(Protocol):
    """What identifies a model: `ModelSpec` has it, and so can anything else."""

    @property
    def name(self) -> str: ...

    @property
    def weights_sha256(self) -> str: ...


def separation_id(
    model: Weights,
    settings: SeparationSettings,
    *,
    precision: str = "fp32",
    provider: str = "",
    base_url: str = "",
) -> str:
    """`MODEL-xxxxxxxx`, eight hex digits of the SHA-256 over canonical JSON.

    The seed counts only with shifts, the kept stems only when there is a choice of them, and a
    service (`provider`, the origin of `base_url`) only for a cloud separation.

    Args:
        model: Name and weights' SHA-256; a bag's own weights and segment count where it has them.
        settings: What was asked for.
        precision: Class of arithmetic: `fp32`, `fp16`, `bf16`.
        provider: The cloud service's name; empty for a local separation.
        base_url: The cloud service's address.
    """
    facts: dict[str, Any] = {
        "algorithm": ALGORITHM,
        "model": model.name,
        "weights_sha256": model.weights_sha256,
        "overlap": settings.overlap,
        "shifts": settings.shifts,
        "precision": precision,
        "format": settings.format,
        "bit_depth": settings.bit_depth,
    }
    if settings.shifts:
        facts["seed"] = settings.seed
    kept = set(settings.stems)
    if kept and kept != set(getattr(model, "sources", ())):
        facts["stems"] = sorted(kept)
    for override in ("bag_weights", "bag_segment_s", "recipe_sha256"):
        if (value := getattr(model, override, None)) is not None:
            facts[override] = value
    if provider:
        url = urlsplit(base_url)
        facts["provider"] = provider
        facts["origin"] = f"{url.scheme}://{url.netloc.rpartition('@')[2]}".lower()
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = hashlib.sha256(canonical.encode("ascii")).hexdigest()[:8]
    return f"{_file_name(model.name)}-{digest}"


def _file_name(name: str) -> str:
    # The identity is a folder's name.
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("._") or "model"
