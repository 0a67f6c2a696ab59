"""`${NAME}` and `${NAME:-default}` in a setting's text; `$$` is a dollar sign."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
    r"|(?P<broken>\{[^}]*\}?))"
)


@dataclass(frozen=True)
class Interpolated:
    """A text with its variables filled in.

    `names` are those it refers to, `unset` those of them with neither a value nor a default,
    `broken` what looks like a reference and is none.
    """

    text: str
    names: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


def interpolate(text: str, environ: Mapping[str, str]) -> Interpolated:
    """Fill in a text's variables, as a shell would: an empty one counts as unset for `:-`."""
    names: list[str] = []
    unset: list[str] = []
    broken: list[str] = []

    def fill(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["broken"]:
            broken.append(match[0])
            return match[0]
        name, default = match["name"], match["default"]
        names.append(name)
        if default is not None:
            return environ.get(name) or default
        if name not in environ:
            unset.append(name)
        return environ.get(name, "")

    filled = _REFERENCE.sub(fill, text)
    return Interpolated(filled, tuple(names), tuple(unset), tuple(broken))
