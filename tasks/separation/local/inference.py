"""The forward passes over one track, through demucs' own scheduler.

Issue 3 replaces this file with a scheduler of our own; nothing else knows how segments are cut.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contracts import SeparationSettings
from tasks.errors import ContractBroken, OutOfMemory

if TYPE_CHECKING:
    import torch
    from demucs.apply import BagOfModels
    from numpy.typing import NDArray

_MAX_SHIFT_S = 0.5


def separate_samples(
    model: BagOfModels,
    mixture: NDArray[np.float32],
    device: str,
    settings: SeparationSettings,
    on_segment: Callable[[float], None],
) -> NDArray[np.float32]:
    """Separate one mixture.

    Normalises as `demucs.api.Separator` does, by mean and deviation of the mono mean. Digital
    silence needs no forward pass: its stems are silent.

    Args:
        model: On `device` already.
        mixture: Shape (channels, frames), float32.
        settings: Overlap, shifts, seed.
        on_segment: Called before each forward pass with the share done; may raise to stop.

    Returns:
        Shape (sources, channels, frames), float32.

    Raises:
        OutOfMemory: On the device or the host.
    """
    import torch

    if not mixture.any():
        return np.zeros((len(model.sources), *mixture.shape), dtype=np.float32)
    try:
        # cuDNN may otherwise time its kernels and pick another one on the next run.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(
                enabled=True, deterministic=True, benchmark=False, allow_tf32=False
            ),
        ):
            wave = torch.from_numpy(mixture)
            mono = wave.mean(0)
            mean, deviation = mono.mean(), mono.std() + 1e-8
            normal = ((wave - mean) / deviation)[None]
            stems = _shifted(model, normal, device, settings, on_segment)
            return (stems.mul_(deviation).add_(mean))[0].numpy()
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(device) from error
    except RuntimeError as error:
        # The CPU allocator, cuBLAS and cuDNN say it in words only.
        words = str(error).lower()
        if "memory" in words or "alloc" in words:
            raise _out_of_memory(device) from error
        raise ContractBroken(
            f"torch failed on {device}: {str(error).splitlines()[0][:200]}", stage="separate"
        ) from error


def _out_of_memory(device: str) -> OutOfMemory:
    return OutOfMemory(
        f"{device} ran out of memory while separating.",
        stage="separate",
        remedy="Close what else uses it, or use another engine.",
    )


def _shifted(
    model: BagOfModels,
    mixture: torch.Tensor,
    device: str,
    settings: SeparationSettings,
    on_segment: Callable[[float], None],
) -> torch.Tensor:
    # demucs draws its shifts from the process-wide generator; ours come from the seed, and no
    # other thread's draws can come between. All sub-models of a bag see the same shifts.
    from demucs.apply import TensorChunk

    length = mixture.shape[-1]
    if not settings.shifts:
        count = _Count(_passes(model, length, settings.overlap), on_segment)
        return _apply(model, mixture, device, settings, count)
    longest = int(_MAX_SHIFT_S * model.samplerate)
    draw = random.Random(settings.seed)
    offsets = [draw.randint(0, longest) for _ in range(settings.shifts)]
    padded = TensorChunk(mixture).padded(length + 2 * longest)  # type: ignore[no-untyped-call]
    spans = [length + longest - offset for offset in offsets]
    count = _Count(sum(_passes(model, span, settings.overlap) for span in spans), on_segment)
    total: torch.Tensor | None = None
    for offset, span in zip(offsets, spans, strict=True):
        chunk = TensorChunk(padded, offset, span)  # type: ignore[no-untyped-call]
        out = _apply(model, chunk, device, settings, count)
        out = out[..., longest - offset :]
        total = out if total is None else total.add_(out)
    assert total is not None
    return total.div_(settings.shifts)


def _apply(
    model: BagOfModels, mixture: Any, device: str, settings: SeparationSettings, count: _Count
) -> torch.Tensor:
    from demucs.apply import apply_model

    out: torch.Tensor = apply_model(
        model,
        mixture,
        shifts=0,
        split=True,
        overlap=settings.overlap,
        device=device,
        callback=count,
    )
    return out


class _Count:
    """demucs' callback: counts forward passes, and asks before each whether to go on."""

    def __init__(self, passes: int, on_segment: Callable[[float], None]) -> None:
        self._passes = passes
        self._on_segment = on_segment
        self._done = 0

    def __call__(self, event: dict[str, Any]) -> None:
        if event["state"] == "start":
            self._on_segment(self._done / self._passes)
        else:
            self._done += 1


def _passes(model: BagOfModels, length: int, overlap: float) -> int:
    """Forward passes over `length` frames: `demucs.apply.apply_model`'s own arithmetic."""
    total = 0
    network: Any
    for network in model.models:
        stride = int((1 - overlap) * int(network.samplerate * network.segment))
        total += len(range(0, length, stride))
    return total
