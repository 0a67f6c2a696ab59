"""The families of models, by name.

A file here that stands in `_SHIPPED`, or a subclass of `family.ModelFamily` anywhere else that was
imported, is one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.separation.models.family import ModelFamily
    from tasks.separation.models.spec import KnownModel

_SHIPPED = {"demucs": "demucs_family", "unblend": "unblend_family"}
FAMILIES: dict[str, type[ModelFamily]] = {}
"""The classes that were imported so far; each puts itself here."""


def families() -> tuple[ModelFamily, ...]:
    """Return every family, the shipped ones first: the first that has a name has it."""
    for file in _SHIPPED.values():
        import_module(f"{__name__}.{file}")
    return tuple(FAMILIES[name]() for name in dict.fromkeys((*_SHIPPED, *FAMILIES)))


def family_of(name: str) -> ModelFamily:
    """Return the family of that name, which a `ModelSpec` has."""
    return next(one for one in families() if one.name == name)


def known_model(name: str) -> KnownModel | None:
    """Return a known model of any family, or None."""
    return next((one.known[name] for one in families() if name in one.known), None)
