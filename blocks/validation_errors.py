"""What is wrong with the settings, in words: a problem names its key and never a secret."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from blocks.redaction import MASK
from tasks.errors import SettingsError

_URL_PASSWORD = re.compile(r"(?<=://)[^/@\s]+(?=@)")

SECRET_KEYS = frozenset({"engine.api_key", "engine.alternatives.api_key"})
HOLDERS = frozenset({"engine.alternatives"})
"""Keys whose values hold secrets among other things: what was written there is never quoted."""


def is_secret(key: str) -> bool:
    """Whether this key, or one above it, holds a secret."""
    return any(key == one or key.startswith(f"{one}.") for one in SECRET_KEYS)


def is_hidden(key: str) -> bool:
    """Whether what was written under this key must not be quoted."""
    return is_secret(key) or any(key == one or key.startswith(f"{one}.") for one in HOLDERS)


_EXPECTED = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping of keys to texts",
    "extra_forbidden": "unknown key",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "tuple_type": "must be a list of names",
}
_BOUNDS = {
    "greater_than": ("gt", "must be more than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where it was set."""

    sentence: str
    origin: str


def settings_error(problems: Sequence[Problem]) -> SettingsError:
    """All problems as one error, a line each; the remedy says where to put them right."""
    places = list(dict.fromkeys(problem.origin for problem in problems if problem.origin))
    remedy = f"Correct {_listed(places, 'and')}." if places else ""
    return SettingsError("\n".join(p.sentence for p in problems), remedy=remedy)


def unknown_key(path: str, known: Iterable[str]) -> str:
    return f"{path}: unknown key; did you mean {nearest(path, list(known))}?"


def nearest(path: str, known: Sequence[str]) -> str:
    """The known path most like `path`: a sibling, else its name elsewhere, else the likest."""
    section, _, leaf = path.rpartition(".")
    siblings = {p.rpartition(".")[2]: p for p in known if p.rpartition(".")[0] == section}
    anywhere = {p.rpartition(".")[2]: p for p in known}
    for pool, cutoff in ((siblings, 0.6), (anywhere, 0.75)):
        if close := get_close_matches(leaf, pool, n=1, cutoff=cutoff):
            return pool[close[0]]
    return max(known, key=lambda p: SequenceMatcher(None, path, p).ratio())


def wrong_value(path: str, error: ErrorDetails, shown: Any) -> str:
    """A pydantic error as a sentence. `shown` is what the user wrote, before interpolation."""
    expected = _expectation(error)
    if is_hidden(path):
        return f"{_within(path, error)}: {expected}."
    return f"{path}: {expected}, not {_quoted(shown)}."


def _within(path: str, error: ErrorDetails) -> str:
    """The key that is wrong, with its place in a list: `engine.alternatives.0.max_retries`."""
    whole = ".".join(str(part) for part in error["loc"])
    return whole if path in HOLDERS else path


def wrong_kind(path: str, value: Any, shown: Any, kind: Any) -> str:
    """A sentence on what pydantic would let pass: true as a number, numbers that aren't finite."""
    if kind not in (int, float):
        return ""
    if isinstance(value, bool):
        expected = "must be a whole number" if kind is int else "must be a number"
    elif _is_infinite(value):
        expected = "must be a finite number"
    else:
        return ""
    return f"{path}: {expected}, not {_quoted(shown)}."


def _is_infinite(value: Any) -> bool:
    try:
        return not math.isfinite(float(value))
    except (TypeError, ValueError):
        return False  # no number at all, which pydantic says better


def mask_password(text: str) -> str:
    """The text without the user names and passwords of the URLs in it."""
    return _URL_PASSWORD.sub(MASK, text)


def _expectation(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"{words} {context[bound]:g}"
    if kind == "literal_error":
        return f"must be {str(context['expected']).replace(chr(39), '')}"
    if kind == "value_error":
        return str(context["error"])
    return _EXPECTED.get(kind) or error["msg"][:1].lower() + error["msg"][1:]


def _quoted(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, bool):
        return str(value).lower()
    text = mask_password(repr(value))
    return text if len(text) <= 80 else f"{text[:77]}…"


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
