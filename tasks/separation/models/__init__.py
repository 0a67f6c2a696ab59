"""Separation models: which there are, where their weights lie, and loading them.

Finding, listing and verifying read only headers and hashes: torch is imported by `load_network`
and `import_checkpoint` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.separation.models.hub import fetch
from tasks.separation.models.registry import KNOWN_MODELS, KnownModel
from tasks.separation.models.spec import ModelSpec
from tasks.separation.models.store import (
    EMBEDDED_DIR,
    ModelEntry,
    Verification,
    find_model,
    list_models,
    models_folder,
    verify,
)

if TYPE_CHECKING:
    from tasks.separation.models.checkpoints import import_checkpoint
    from tasks.separation.models.loading import load_network

__all__ = [
    "EMBEDDED_DIR",
    "KNOWN_MODELS",
    "KnownModel",
    "ModelEntry",
    "ModelSpec",
    "Verification",
    "fetch",
    "find_model",
    "import_checkpoint",
    "list_models",
    "load_network",
    "models_folder",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "import_checkpoint":
        from tasks.separation.models.checkpoints import import_checkpoint

        return import_checkpoint
    if name == "load_network":
        from tasks.separation.models.loading import load_network

        return load_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
