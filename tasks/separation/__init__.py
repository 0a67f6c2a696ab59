"""Separation: a mixture becomes stems, on this machine's hardware or through a service.

`StemSeparationEngine` is the article's facade. The flows use the parts: `find_model` and
`choose_engine` once a run, then one `LocalSeparator` or `CloudEngine` for all its tracks.
Nothing here imports torch until a model is loaded or the hardware is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tasks.contracts import AudioSource, SeparationJob

if TYPE_CHECKING:
    from tasks.separation.cloud import CloudEngine, SeparationApi
    from tasks.separation.hardware import Hardware, detect
    from tasks.separation.identity import separation_id
    from tasks.separation.local import LocalSeparator, default_deadline_s
    from tasks.separation.models import ModelSpec, find_model, list_models
    from tasks.separation.routing import Route, choose_engine
    from tasks.separation.stem_files import write_stems
    from tasks.stem_separation_engine import StemSeparationEngine

_HOMES = {
    "CloudEngine": "cloud",
    "SeparationApi": "cloud",
    "Hardware": "hardware",
    "detect": "hardware",
    "separation_id": "identity",
    "LocalSeparator": "local",
    "default_deadline_s": "local",
    "ModelSpec": "models",
    "find_model": "models",
    "list_models": "models",
    "Route": "routing",
    "choose_engine": "routing",
    "write_stems": "stem_files",
}

__all__ = [
    "AudioSource",
    "CloudEngine",
    "Hardware",
    "LocalSeparator",
    "ModelSpec",
    "Route",
    "SeparationApi",
    "SeparationJob",
    "StemSeparationEngine",
    "choose_engine",
    "default_deadline_s",
    "detect",
    "find_model",
    "list_models",
    "separation_id",
    "write_stems",
]


def __getattr__(name: str) -> Any:
    if name not in (*_HOMES, "StemSeparationEngine"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "tasks.stem_separation_engine" if name == "StemSeparationEngine" else ""
    return getattr(import_module(home or f"{__name__}.{_HOMES[name]}"), name)
