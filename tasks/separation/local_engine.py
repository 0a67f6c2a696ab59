"""The engine of this machine that runs a model: its family and the devices decide."""

from __future__ import annotations

from tasks.contracts import LocalOptions
from tasks.separation.engine import Engine
from tasks.separation.models.families import family_of
from tasks.separation.models.spec import ModelSpec
from tasks.separation.wrappers import Pooled


def local_engine(
    spec: ModelSpec,
    *,
    device: str,
    reasons: tuple[str, ...] = (),
    clear_cache_between_jobs: bool = False,
    log_vram_usage: bool = False,
    options: LocalOptions | None = None,
) -> Engine:
    """An engine for a model; its weights are loaded at the first track.

    Args:
        device: Torch's name; several, joined by commas, share the tracks.

    Raises:
        LibraryMissing: The library of the model's family isn't installed, or can't be imported.
        SettingsError: That library can't use the device, or the precision isn't one of it.
    """

    family = family_of(spec.family)
    engines = [
        family.make_engine(
            spec,
            device=name,
            options=options,
            reasons=reasons,
            clear_cache_between_jobs=clear_cache_between_jobs,
            log_vram_usage=log_vram_usage,
        )
        for name in device.split(",")
    ]
    return engines[0] if len(engines) == 1 else Pooled(engines)
