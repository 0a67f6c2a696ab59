"""Turning demucs' pickled checkpoints into safetensors, once somebody vouches for them."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import yaml

from tasks.errors import SettingsError, SourceMissing, WeightsRefused, from_os_error
from tasks.separation.models.published import is_published, signature_of
from tasks.separation.models.registry import KNOWN_MODELS
from tasks.separation.models.spec import NETWORKS, Bag, read_bag, read_network


def import_checkpoint(
    path: Path, models_dir: Path, name: str | None = None, *, trust: bool = False
) -> Path:
    """Convert `SIG.th` or `SIG-xxxxxxxx.th` to `SIG.safetensors` and `NAME.yaml` in `models_dir`.

    A checkpoint is a pickle: opening it runs its code. Without `trust` it is opened only if its
    SHA-256 is one that demucs publishes, and then without running anything that isn't a demucs
    checkpoint's: demucs publishes but eight digits of each, which can be forged.

    Args:
        path: The checkpoint.
        models_dir: Where the model goes; made if needed.
        name: The model's name; by default the released model that it belongs to, else SIG.
        trust: The user vouches for the file.

    Returns:
        The safetensors file.

    Raises:
        SourceMissing: No such file.
        WeightsRefused: Nobody vouches for it, or it holds no demucs model.
        SettingsError: The name is taken by another model in that folder.
    """
    if not path.is_file():
        raise SourceMissing(f"there is no file at {path}.")
    signature = signature_of(path)
    if not (trust or is_published(path)):
        raise WeightsRefused(
            f"{path.name} is a pickled checkpoint and isn't one that demucs published.",
            remedy="If you trust where it came from, add --trust: opening it runs its code.",
        )
    name = name or _released_as(signature) or signature
    bag = _bag_for(name, signature, models_dir)
    target = models_dir / f"{signature}.safetensors"
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        convert(path, target, trust=trust)
        listing = models_dir / f"{name}.yaml"
        listing.write_text(
            yaml.safe_dump(bag.model_dump(mode="json", exclude_none=True), sort_keys=False)
        )
    except OSError as error:
        raise from_os_error(error) from error
    read_network(target)
    return target


def convert(path: Path, target: Path, *, trust: bool = False) -> None:
    """Write a checkpoint's weights to `target`, which appears whole.

    Args:
        path: The checkpoint.
        target: The safetensors file; its folder is there.
        trust: Run whatever code the pickle holds; without it only what builds a demucs checkpoint.

    Raises:
        WeightsRefused: It holds no demucs model, or (without `trust`) other code too.
        OSError: `target` can't be written.
    """
    from safetensors.torch import save_file

    tensors, metadata = _read(path, trust)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part, metadata=metadata)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _released_as(signature: str) -> str | None:
    owners = [
        model.name for model in KNOWN_MODELS.values() if model.bag and signature in model.bag.models
    ]
    return owners[0] if len(owners) == 1 else None


def _bag_for(name: str, signature: str, models_dir: Path) -> Bag:
    known = KNOWN_MODELS.get(name)
    listing = models_dir / f"{name}.yaml"
    bag = (
        read_bag(listing)
        if listing.is_file()
        else (known.bag if known and known.bag else Bag(models=(signature,)))
    )
    if signature not in bag.models:
        raise SettingsError(
            f"{name} is made of {', '.join(bag.models)}, and {signature} is none of them.",
            remedy="Give another --name.",
        )
    return bag


def _read(path: Path, trust: bool) -> tuple[dict[str, Any], dict[str, str]]:
    import torch

    try:
        with nullcontext() if trust else _only_demucs():
            package = torch.load(path, map_location="cpu", weights_only=not trust)
        klass, state = package["klass"], package["state"]
        args, kwargs = list(package["args"]), dict(package["kwargs"])
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError,
            ImportError, AttributeError) as error:  # fmt: skip
        more = "" if trust else " that can be read without running other code"
        raise WeightsRefused(
            f"{path.name} holds no demucs checkpoint{more} ({str(error).splitlines()[0][:200]}).",
            remedy=""
            if trust
            else f"Fetch the model, or if you trust where {path.name} came "
            f"from: `stemwright models import {path} --trust`.",
        ) from error
    named = f"{klass.__module__}.{klass.__qualname__}"
    if named not in NETWORKS:
        raise WeightsRefused(f"{path.name} holds a {named}, which isn't a demucs model.")
    if not isinstance(state, Mapping) or not all(torch.is_tensor(t) for t in state.values()):
        raise WeightsRefused(
            f"{path.name} is quantized.", remedy="Fetch it: `stemwright models fetch`."
        )
    metadata = {"klass": named, "args": _json(args), "kwargs": _json(kwargs)}
    return {key: tensor.clone().contiguous() for key, tensor in state.items()}, metadata


def _only_demucs() -> AbstractContextManager[None]:
    """While it lasts, torch's restricted reader knows what a published checkpoint is made of."""
    import numpy as np
    import torch
    from demucs.demucs import Demucs
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    scalar = type(np.float64(0)).__reduce__(np.float64(0))[0]
    known: list[Any] = [Demucs, HDemucs, HTDemucs, Fraction, np.dtype]
    # Numbers that an older numpy wrote have its name for the same function.
    known += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    known += [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")]
    return cast(AbstractContextManager[None], torch.serialization.safe_globals(known))


def _json(value: Any) -> str:
    return json.dumps(value, default=_encode)


def _encode(value: Any) -> Any:
    # The encoding that demucs.hf._decode_json reads back.
    if isinstance(value, Fraction):
        return {
            "_type": "fraction",
            "numerator": value.numerator,
            "denominator": value.denominator,
        }
    if hasattr(value, "item"):  # a number of numpy's
        return value.item()
    raise TypeError(f"a {type(value).__name__} can't be written as JSON")
