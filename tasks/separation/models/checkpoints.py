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

from tasks.errors import DiskFull, WeightsRefused, from_os_error
from tasks.separation.models.demucs_files import NETWORKS, signature_of
from tasks.separation.models.digests import cache_file, sha256_of


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


def safetensors_of(weights: Path) -> Path:
    """A checkpoint's weights as safetensors, converted once; safetensors as they are.

    They go beside the checkpoint, or, where nothing can be written, into the cache under the
    checkpoint's SHA-256.

    Raises:
        WeightsRefused: It holds something else than a demucs model.
        DiskFull, StorageError: The cache can't be written either.
    """
    if weights.suffix != ".th":
        return weights
    name = f"{signature_of(weights)}.safetensors"
    kept = cache_file().parent / "converted" / sha256_of(weights) / name
    if kept.is_file():
        return kept
    beside = weights.with_name(name)
    try:
        convert(weights, beside)
        return beside
    except OSError as error:
        if isinstance(from_os_error(error), DiskFull):
            raise from_os_error(error) from error
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        convert(weights, kept)
    except OSError as error:
        raise from_os_error(error) from error
    return kept


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
