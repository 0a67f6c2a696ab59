"""Another's text where markdown is read."""

from __future__ import annotations

import re


def escaped(text: str) -> str:
    """Return another's text with nothing in it that markdown would take for markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", text)
