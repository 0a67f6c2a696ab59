"""What a deployment configures: the YAML settings and Prefect Blocks, the same fields by two doors.

`load_settings` reads them all; importing this package imports neither Prefect nor a model.
`prefect block register -m blocks` registers the five Blocks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blocks.cloud_api import CloudSeparationApi
    from blocks.library import StemLibrary
    from blocks.policies import IngestPolicy, QualityPolicy, SeparationSettings
    from blocks.redaction import install_redaction
    from blocks.settings import StemwrightSettings, load_settings

_HOMES = {
    "CloudSeparationApi": "blocks.cloud_api",
    "IngestPolicy": "blocks.policies",
    "QualityPolicy": "blocks.policies",
    "SeparationSettings": "blocks.policies",
    "StemLibrary": "blocks.library",
    "StemwrightSettings": "blocks.settings",
    "install_redaction": "blocks.redaction",
    "load_settings": "blocks.settings",
}

__all__ = [
    "CloudSeparationApi",
    "IngestPolicy",
    "QualityPolicy",
    "SeparationSettings",
    "StemLibrary",
    "StemwrightSettings",
    "install_redaction",
    "load_settings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    # `prefect block register` finds the Blocks by listing the module.
    return __all__
