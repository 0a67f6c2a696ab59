"""Another's text, and numbers, where markdown is read."""

from __future__ import annotations

import re


def escaped(text: str) -> str:
    """Return another's text with nothing in it that markdown would take for markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", text)


def rounded(value: float | None, digits: int) -> str:
    """Return a number without a minus before zero; empty for what isn't known."""
    return "" if value is None else f"{value:z.{digits}f}"
