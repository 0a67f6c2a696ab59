"""Modules of other people that add a source kind, a model family, a service, a measure or a column.

They are imported before anything else: those that an installed distribution names in the entry
point group `stemwright`, and those in the variable `STEMWRIGHT_PLUGINS`, separated by commas.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import entry_points

from tasks.errors import SettingsError

GROUP = "stemwright"
VARIABLE = "STEMWRIGHT_PLUGINS"


def load_plugins() -> tuple[str, ...]:
    """Import every plugin, each once; return their modules' names.

    Raises:
        SettingsError: One can't be imported; names it, and why.
    """
    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    found = dict.fromkeys([*(point.module for point in entry_points(group=GROUP)), *named])
    for name in found:
        if name in sys.modules:
            continue
        try:
            import_module(name)
        except Exception as error:  # whatever its code raises
            raise SettingsError(
                f"the plugin {name} can't be imported: {type(error).__name__}: {error}",
                remedy=f"Install it, or take it out of {VARIABLE}.",
            ) from error
    return tuple(found)
