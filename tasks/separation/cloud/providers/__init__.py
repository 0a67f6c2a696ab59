"""The services that can be asked, by the name that settings call them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module

from pydantic import SecretStr

from tasks.errors import SettingsError
from tasks.separation.cloud.service import Service

_HOMES = {
    "stemwright": "Stemwright",
    "lalal": "Lalal",
    "music_ai": "MusicAi",
    "audioshake": "AudioShake",
    "replicate": "Replicate",
    "fal": "Fal",
}
SERVICES = tuple(_HOMES)


def make_service(
    name: str,
    *,
    base_url: str = "",
    api_key: SecretStr | str = "",
    options: Mapping[str, str] | None = None,
) -> Service:
    """The dialect of a service.

    Args:
        name: One of `SERVICES`.
        base_url: By default the service's published address, where it has one.
        api_key: Its key.
        options: What else the dialect takes; its class says.

    Raises:
        SettingsError: No such service, or an option or address that it can't use.
    """
    if name not in _HOMES:
        near = difflib.get_close_matches(name, SERVICES, n=1)
        raise SettingsError(
            f"engine.service is {name[:80]!r}, which isn't known.",
            remedy=f"Did you mean {near[0]}?" if near else f"There are {', '.join(SERVICES)}.",
        )
    home = import_module(f"{__name__}.{name}")
    key = api_key if isinstance(api_key, SecretStr) else SecretStr(api_key)
    service: Service = getattr(home, _HOMES[name])(
        base_url=base_url, api_key=key, options=options or {}
    )
    return service
