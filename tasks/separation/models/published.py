"""Checkpoints that demucs published, lying in a user's folder: which they are, and their use."""

from __future__ import annotations

from pathlib import Path

from tasks.errors import DiskFull, from_os_error
from tasks.separation.models.digests import cache_file, sha256_of
from tasks.separation.models.registry import published_checkpoints


def signature_of(checkpoint: Path) -> str:
    """The sub-model's name, of `SIG.th` or `SIG-xxxxxxxx.th`."""
    return checkpoint.stem.split("-", 1)[0]


def is_published(checkpoint: Path) -> bool:
    """Whether its SHA-256 begins with the eight hex digits that demucs publishes for it."""
    prefix = published_checkpoints().get(signature_of(checkpoint))
    return bool(prefix) and sha256_of(checkpoint).startswith(str(prefix))


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
    from tasks.separation.models.checkpoints import convert

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
