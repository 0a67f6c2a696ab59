"""The providers that can be asked, by the name that settings call them.

A file here whose name stands in `_SHIPPED`, or a subclass of `providers.base.CloudProvider`
anywhere else that was imported, is one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from pydantic import SecretStr

from tasks.errors import SettingsError

if TYPE_CHECKING:
    from tasks.separation.cloud.providers.base import CloudProvider

_SHIPPED = ("stemwright", "lalal", "music_ai", "audioshake", "replicate", "fal")
PROVIDERS: dict[str, type[CloudProvider]] = {}
"""The classes that were imported so far; each puts itself here."""


def provider_names() -> tuple[str, ...]:
    """Return the names that settings may use."""
    return tuple(dict.fromkeys((*_SHIPPED, *PROVIDERS)))


def make_provider(
    name: str,
    *,
    base_url: str = "",
    api_key: SecretStr | str = "",
    options: Mapping[str, str] | None = None,
) -> CloudProvider:
    """Make the provider of a name; asks nobody.

    Args:
        name: One of `provider_names()`.
        base_url: By default the provider's published address, where it has one.
        api_key: Its key.
        options: What else it takes; its class says.

    Raises:
        SettingsError: No such provider, or an option or address that it can't use.
    """
    names = provider_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise SettingsError(
            f"engine.service is {name[:80]!r}, which isn't known.",
            remedy=f"Did you mean {near[0]}?" if near else f"There are {', '.join(names)}.",
        )
    if name not in PROVIDERS:
        import_module(f"{__name__}.{name}")
    key = api_key if isinstance(api_key, SecretStr) else SecretStr(api_key)
    return PROVIDERS[name](base_url=base_url, api_key=key, options=options or {})
