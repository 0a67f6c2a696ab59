"""Parameters that no run may have, made for every field of a flow's form."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
Body = dict[str, Any]

MEGABYTES = "x" * 2_000_000
NUMBERS = [float("nan"), float("inf"), float("-inf"), 1e300, -1e10, 10**40]
WRONG: list[Any] = [
    "Am\udce9lie.flac",
    "\ud83d half a pair",
    "a\0b",
    "x" * 5000,
    MEGABYTES,
    *NUMBERS,
    {"\udce9": "\udce9"},
    ["a\0b", "\udfff"],
    [[[["\udce9"]]]],
    {"$ref": {"block_document_id": "\udce9"}},
    {"$ref": "a\0b"},
    None,
]


@dataclass(frozen=True)
class Wrong:
    """A body, and where in it the wrong value stands."""

    body: Body
    where: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.where)


def wrong_bodies(schema: Schema, good: Body, *, seed: int = 7) -> Iterator[Wrong]:
    """Put each wrong value into each field, into fields that aren't there, and for a group.

    Args:
        schema: Of the flow's parameters, as it is deployed.
        good: Parameters that the flow takes.
        seed: Of the surroundings: half of the other groups are there, half aren't.
    """
    draw = random.Random(seed)
    for path in _places(schema):
        for value in WRONG:
            body = deepcopy(good)
            others = [group for group in schema["properties"] if group not in body]
            body |= {group: {} for group in others if draw.random() < 0.5}
            yield Wrong(_set(body, path, value), path)


def _places(schema: Schema) -> Iterator[tuple[str, ...]]:
    yield ("no_such_group",)
    for group, field in schema["properties"].items():
        yield (group,)
        yield (group, "no_such_field")
        fields = schema["definitions"][field["$ref"].rsplit("/", 1)[1]]["properties"]
        for name, inner in fields.items():
            yield (group, name)
            if inner.get("type") == "array":
                yield (group, name, "0")


def _set(body: Body, path: tuple[str, ...], value: Any) -> Body:
    *above, last = path
    if last == "0":
        *above, last = above
        value = [value]
    inside = body
    for key in above:
        inside = inside.setdefault(key, {})
    inside[last] = value
    return body
