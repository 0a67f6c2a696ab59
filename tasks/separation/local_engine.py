"""The engine of this machine that runs a model: which one, its family decides."""

from __future__ import annotations

from tasks.contracts import LocalOptions
from tasks.separation.legs import LocalEngine
from tasks.separation.models.spec import ModelSpec


def local_engine(
    spec: ModelSpec,
    *,
    device: str,
    reasons: tuple[str, ...] = (),
    clear_cache_between_jobs: bool = False,
    log_vram_usage: bool = False,
    options: LocalOptions | None = None,
) -> LocalEngine:
    """An engine for a model; its weights are loaded at the first track.

    Raises:
        LibraryMissing: The library of the model's family isn't installed, or can't be imported.
        SettingsError: That library can't use the device.
    """
    if spec.family == "unblend":
        from tasks.separation.unblend import UnblendSeparator

        return UnblendSeparator(
            spec,
            device=device,
            reasons=reasons,
            clear_cache_between_jobs=clear_cache_between_jobs,
            log_vram_usage=log_vram_usage,
        )
    from tasks.separation.local import LocalSeparator

    return LocalSeparator(
        spec,
        device=device,
        reasons=reasons,
        clear_cache_between_jobs=clear_cache_between_jobs,
        log_vram_usage=log_vram_usage,
        options=options,
    )
