"""The files that demucs publishes, read without torch: yaml, safetensors headers, its own lists.

A bag's yaml names its sub-models; each sub-model's header holds `klass`, `args` and `kwargs` as
JSON (`INTERFACES.md` section 7; `demucs.hf.load_safetensors_model` is the reader of record).
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.contracts import CHANNELS, SAMPLE_RATE_HZ, Value
from tasks.errors import WeightsRefused
from tasks.separation.models.digests import sha256_of
from tasks.separation.models.spec import KnownModel, ModelSpec, Origin, combined_digest

# Metadata names a class to construct; anything but demucs' networks is somebody's trick.
NETWORKS = frozenset({"demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs"})
_DEFAULT_SEGMENT_S = {"demucs.htdemucs.HTDemucs": 10.0}
_OTHER_SEGMENT_S = 40.0
_SIGNATURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Bag(BaseModel):
    """`NAME.yaml`: sub-models, their weights per stem (absent: all ones), a segment in s."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    models: tuple[str, ...] = Field(min_length=1)
    weights: tuple[tuple[float, ...], ...] | None = None
    segment: float | None = None


class Network(Value):
    """One sub-model, as its header describes it."""

    klass: str
    sources: tuple[str, ...]
    sample_rate_hz: int
    channels: int
    segment_s: float


def read_bag(path: Path) -> Bag:
    """Read `NAME.yaml`.

    Raises:
        WeightsRefused: It isn't a bag, or a signature in it isn't a plain file name.
    """
    try:
        bag = Bag.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise WeightsRefused(f"{path} doesn't list sub-models (`models: [SIG, …]`).") from error
    odd = [name for name in bag.models if not _SIGNATURE.fullmatch(name)]
    if odd:
        raise WeightsRefused(f"{path} names a sub-model {odd[0]!r}, which is no plain file name.")
    if bag.weights is not None and len(bag.weights) != len(bag.models):
        raise WeightsRefused(
            f"{path} has {len(bag.weights)} rows of weights for {len(bag.models)} sub-models."
        )
    return bag


def read_network(path: Path) -> Network:
    """Read a safetensors header; the tensors stay on the disk.

    Raises:
        WeightsRefused: Damaged or cut short, no demucs metadata, or a class that isn't demucs'.
    """
    metadata = _metadata(path)
    klass = metadata.get("klass", "")
    if klass not in NETWORKS:
        raise WeightsRefused(f"{path.name} wants the class {klass!r}, which isn't a demucs model.")
    _refuse_foreign_classes(path, metadata.get("structure", ""))
    try:
        args = json.loads(metadata["args"])
        kwargs = json.loads(metadata["kwargs"])
        sources = tuple(str(name) for name in kwargs.get("sources") or args[0])
        return Network(
            klass=klass,
            sources=sources,
            sample_rate_hz=int(kwargs.get("samplerate", SAMPLE_RATE_HZ)),
            channels=int(kwargs.get("audio_channels", CHANNELS)),
            segment_s=_number(
                kwargs.get("segment", _DEFAULT_SEGMENT_S.get(klass, _OTHER_SEGMENT_S))
            ),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise WeightsRefused(
            f"{path.name} doesn't say how to build its model (`args`, `kwargs`)."
        ) from error


def describe(
    name: str,
    bag: Bag,
    weights: Sequence[Path],
    digests: Sequence[str],
    *,
    origin: Origin,
    known: KnownModel | None = None,
) -> ModelSpec:
    """Put a bag, its files and their digests together.

    Raises:
        WeightsRefused: The sub-models don't agree on stems, rate or channels.
    """
    networks = [read_network(path) for path in weights]
    first = networks[0]
    for path, other in zip(weights, networks, strict=True):
        if (other.sources, other.sample_rate_hz, other.channels) != (
            first.sources,
            first.sample_rate_hz,
            first.channels,
        ):
            raise WeightsRefused(f"{path.name} doesn't separate what the rest of {name} separates.")
    if bag.weights and any(len(row) != len(first.sources) for row in bag.weights):
        raise WeightsRefused(f"{name}.yaml doesn't have one weight for each of its stems.")
    return ModelSpec(
        name=name,
        sources=first.sources,
        sample_rate_hz=first.sample_rate_hz,
        channels=first.channels,
        segment_s=min(network.segment_s for network in networks),
        weights=tuple(weights),
        weights_sha256=combined_digest(digests),
        bag_weights=bag.weights,
        bag_segment_s=bag.segment,
        size_bytes=sum(path.stat().st_size for path in weights),
        licence=known.licence if known else "",
        published_sdr_db=known.published_sdr_db if known else None,
        origin=origin,
    )


def signature_of(checkpoint: Path) -> str:
    """The sub-model's name, of `SIG.th` or `SIG-xxxxxxxx.th`."""
    return checkpoint.stem.split("-", 1)[0]


def is_published(checkpoint: Path) -> bool:
    """Whether its SHA-256 begins with the eight hex digits that demucs publishes for it."""
    prefix = published_checkpoints().get(signature_of(checkpoint))
    return bool(prefix) and sha256_of(checkpoint).startswith(str(prefix))


@cache
def _demucs_remote() -> Path | None:
    # The package's own lists of files; importing demucs.pretrained to read them would load torch.
    found = importlib.util.find_spec("demucs")
    return Path(found.origin).parent / "remote" if found and found.origin else None


@cache
def published_bag(name: str) -> Bag | None:
    """Return a released model's sub-models as the package demucs lists them."""
    remote = _demucs_remote()
    listed = remote / f"{name}.yaml" if remote else None
    return read_bag(listed) if listed and listed.is_file() else None


@cache
def published_checkpoints() -> dict[str, str]:
    """Demucs' own pickled checkpoints: signature to the first hex digits of its SHA-256."""
    remote = _demucs_remote()
    listing = remote / "files.txt" if remote else None
    if not listing or not listing.is_file():
        return {}
    lines = (line.strip() for line in listing.read_text().splitlines())
    stems = (line.removesuffix(".th") for line in lines if line.endswith(".th"))
    return dict(stem.split("-", 1) for stem in stems if "-" in stem)


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsRefused(
            f"{path} is damaged, cut short, or not safetensors ({error}).",
            remedy="Delete it and fetch or copy it again.",
        ) from error


def _refuse_foreign_classes(path: Path, structure: str) -> None:
    # Quantized states name classes to import; only those of demucs and diffq belong there.
    foreign = [
        named
        for named in re.findall(r'"_class"\s*:\s*"([^"]*)"', structure)
        if named.split(".", 1)[0] not in {"demucs", "diffq"}
    ]
    if foreign:
        raise WeightsRefused(f"{path.name} wants the class {foreign[0]!r}, which isn't demucs'.")


def _number(value: Any) -> float:
    if isinstance(value, dict):
        return float(value["numerator"]) / float(value["denominator"])
    return float(value)
