"""Separation: a mixture becomes stems, on this machine's hardware or through a service.

`factory.make_engine` makes the one engine of a run, whatever is behind it; `StemSeparationEngine`
is the article's facade. Nothing here imports torch until a model is loaded or the hardware is
asked for.
"""

from typing import Any

import lazy_loader

from tasks.contracts import AudioSource as AudioSource
from tasks.contracts import SeparationJob as SeparationJob

_attribute, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["AudioSource", "SeparationJob", "StemSeparationEngine", *_names]


def __getattr__(name: str) -> Any:
    if name == "StemSeparationEngine":
        # It stands above the rooms, and is found here all the same.
        from importlib import import_module

        return import_module("tasks.stem_separation_engine").StemSeparationEngine
    return _attribute(name)
