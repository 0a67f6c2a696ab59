"""How the library `unblend` builds its models, of its own registry: a YAML file.

That is read without importing the library, which would take torch, torchaudio and seconds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tasks.contracts import CHANNELS, SAMPLE_RATE_HZ
from tasks.errors import LibraryMissing, ProtocolError

EXTRA = "pip install 'stemwright[unblend]'"


@dataclass(frozen=True)
class Artifact:
    """A file of weights: where it is published, and what it must be."""

    repo: str
    revision: str
    file: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Recipe:
    """How the library builds a model.

    Attributes:
        name: As the library has it.
        sources: Its stems, in the order of its output.
        sample_rate_hz: Of what goes in and comes out.
        channels: Of both.
        segment_s: The longest piece that one forward pass takes, of its shortest member.
        artifacts: Its members' weights, in order.
        digest: SHA-256 over what else than weights and settings decides its output: networks'
            shapes, segments, and how members are combined.
    """

    name: str
    sources: tuple[str, ...]
    sample_rate_hz: int
    channels: int
    segment_s: float
    artifacts: tuple[Artifact, ...]
    digest: str


def is_installed() -> bool:
    """Whether the library is there; whether it can be imported is another matter."""
    return _registry_file() is not None


def recipe_of(name: str) -> Recipe:
    """A model as the installed library describes it.

    Raises:
        LibraryMissing: It isn't installed.
        ProtocolError: Its registry lacks the model, or says something that isn't understood.
    """
    entries = registry_of(name)
    members = list(_members(entries, name))
    try:
        facts = [_geometry(member) for member in members]
        return Recipe(
            name=name,
            sources=tuple(entries[name]["sources"]),
            sample_rate_hz=facts[0][0],
            channels=facts[0][1],
            segment_s=min(segment for *_, segment in facts),
            artifacts=tuple(_artifact(member["artifact"]) for member in members),
            digest=_digest(entries[name], members),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ProtocolError(f"unblend's registry describes {name} in another way.") from error


def registry_of(name: str) -> dict[str, Any]:
    """The entries of the library's registry that a model is made of, its own among them.

    Raises:
        As `recipe_of`.
    """
    file = _registry_file()
    if file is None:
        raise LibraryMissing(
            f"{name} needs the library unblend, which isn't installed.", remedy=f"`{EXTRA}`."
        )
    entries = _read(file)
    if name not in entries:
        raise ProtocolError(f"this version of unblend has no model {name}.")
    referred = [member["model"] for member in entries[name].get("members", ()) if "model" in member]
    needed = {name: entries[name]}
    for other in referred:
        needed |= registry_of(other)
    return needed


@cache
def _registry_file() -> Path | None:
    found = importlib.util.find_spec("unblend")
    file = Path(found.origin).parent / "metadata.yaml" if found and found.origin else None
    return file if file and file.is_file() else None


@cache
def _read(file: Path) -> Mapping[str, Any]:
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))["models"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ProtocolError(f"unblend's registry {file} can't be read.") from error
    return dict(entries)


def _members(entries: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Each network of a model: its entry, with its weights' as `artifact`."""
    entry = entries[name]
    if "members" not in entry:
        yield {**entry, "artifact": entry["checkpoint"]}
        return
    for member in entry["members"]:
        if "model" in member:
            yield from _members(entries, member["model"])
        else:
            yield {**entry, **member, "artifact": member.get("checkpoint", member)}


def _geometry(member: Mapping[str, Any]) -> tuple[int, int, float]:
    """Rate in Hz, channels, segment in seconds. HTDemucs has them in its configuration."""
    config = member["config"]
    rate = int(member.get("samplerate") or config.get("samplerate") or SAMPLE_RATE_HZ)
    mono = config.get("stereo") is False
    channels = int(config.get("audio_channels") or (1 if mono else CHANNELS))
    samples = member.get("segment_samples")
    segment = float(samples) / rate if samples else float(config["segment"])
    return rate, channels, min(segment, float(member.get("segment") or segment))


_HUB_URL = re.compile(
    r"https://huggingface\.co/([\w.-]+/[\w.-]+)/resolve/([0-9a-f]{40})/([A-Za-z0-9][\w.-]*)"
)


def _artifact(spec: Mapping[str, Any]) -> Artifact:
    found = _HUB_URL.fullmatch(spec["url"])
    if not found:
        raise ValueError(spec["url"])
    repo, revision, file = found.groups()
    return Artifact(repo, revision, file, str(spec["sha256"]), int(spec["size_bytes"]))


_SAYS_NOTHING_OF_OUTPUT = {"license", "license_note", "provenance", "url", "artifact", "checkpoint"}


def _digest(entry: Mapping[str, Any], members: list[dict[str, Any]]) -> str:
    told = [
        {key: value for key, value in each.items() if key not in _SAYS_NOTHING_OF_OUTPUT}
        for each in (entry, *members)
    ]
    canonical = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
