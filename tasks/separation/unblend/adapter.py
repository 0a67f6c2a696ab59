"""The library itself: importing it, building a model with it, and its failures as ours."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tasks.errors import LibraryMissing, SettingsError, WeightsRefused
from tasks.separation.models.spec import ModelSpec
from tasks.separation.torch_faults import torch_told
from tasks.separation.unblend.recipes import EXTRA, is_installed, registry_of


@cache
def library() -> Any:
    """The module `unblend`.

    It imports torchaudio, whose wheels load CUDA's libraries, for resampling only, which nothing
    here asks of it. So where torchaudio can't be imported, unblend is imported without.

    Raises:
        LibraryMissing: It isn't installed, or can't be imported.
    """
    if not is_installed():
        raise LibraryMissing("the library unblend isn't installed.", remedy=f"`{EXTRA}`.")
    try:
        with _torchaudio_or_none():
            import unblend
    except (ImportError, OSError, RuntimeError) as error:
        raise LibraryMissing(
            f"the library unblend is installed and can't be imported ({_first_line(error)}).",
            remedy=f"`{EXTRA}` in a new environment; it needs torch 2.13 or newer.",
        ) from error
    return unblend


def precision_of(device: str) -> str:
    """The class of arithmetic that the library picks for a device: `fp16` or `fp32`.

    Raises:
        SettingsError: It can't use the device.
    """
    unblend = library()
    with failures_told(device):
        return "fp16" if unblend.default_dtype(device) is not None else "fp32"


def load(spec: ModelSpec, device: str) -> Any:
    """The model as an `unblend.Separator`, built of the files that `spec` names and no others.

    Raises:
        WeightsRefused: The library can't build it of them.
        OutOfMemory: The device has no room for it.
    """
    unblend = library()
    with tempfile.TemporaryDirectory(prefix="stemwright-") as folder, failures_told(device):
        registry = Path(folder) / "models.json"
        registry.write_text(json.dumps({"models": _with_files(spec)}), encoding="utf-8")
        # No other registry of the user's, and nothing to download.
        repository = unblend.ModelRepository(metadata_path=registry, extra_models=[])
        return unblend.Separator(model=repository.get_model(spec.name), device=device)


@contextmanager
def failures_told(device: str) -> Iterator[None]:
    """The library's failures, and torch's under it, as errors of our family.

    Raises:
        OutOfMemory, SettingsError, WeightsRefused, ProtocolError.
    """
    import torch

    unblend = library()
    # cuDNN may otherwise time its kernels and pick another one on the next run.
    flags = torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False)
    with torch_told(device), flags:
        try:
            yield
        except unblend.ValidationError as error:
            raise SettingsError(f"unblend refuses that: {_first_line(error)}") from error
        except unblend.ModelLoadingError as error:
            raise WeightsRefused(
                f"unblend can't build it: {_first_line(error)}",
                remedy="Delete its files and fetch or copy them again.",
            ) from error


def _with_files(spec: ModelSpec) -> dict[str, Any]:
    """The library's registry entries of a model, each with its file in place of its address."""
    entries, made = registry_of(spec.name), {}
    # A file for each network, in the order in which the registry names them.
    files = iter(spec.weights)

    def localise(name: str) -> None:
        entry = dict(entries[name])
        if "checkpoint" in entry:
            entry["checkpoint"] = _at(entry["checkpoint"], next(files))
        members = []
        for member in entry.get("members", ()):
            if "model" in member:
                localise(member["model"])
                members.append(member)
            elif "checkpoint" in member:
                members.append(member | {"checkpoint": _at(member["checkpoint"], next(files))})
            else:
                members.append(_at(member, next(files)))
        made[name] = entry | ({"members": members} if members else {})

    localise(spec.name)
    return made


def _at(artifact: dict[str, Any], file: Path) -> dict[str, Any]:
    elsewhere = {key: value for key, value in artifact.items() if key != "url"}
    return elsewhere | {"path": str(file.resolve())}


class _Absent(ModuleType):
    """Stands for a module that can't be imported; says so to whoever uses it."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name)
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise ImportError(f"{self.__name__} can't be imported: {self._error}")


@contextmanager
def _torchaudio_or_none() -> Iterator[None]:
    try:
        import torchaudio  # noqa: F401 - only whether it can be
    except (ImportError, OSError, RuntimeError) as error:
        # For the import of unblend alone: whoever else wants it gets the true error.
        sys.modules["torchaudio"] = _Absent("torchaudio", error)
        try:
            yield
        finally:
            del sys.modules["torchaudio"]
    else:
        yield


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
