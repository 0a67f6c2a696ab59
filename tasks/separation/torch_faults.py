"""Torch's failures as errors of our family."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.errors import OutOfMemory, ProtocolError


@contextmanager
def torch_told(device: str) -> Iterator[None]:
    """Within it, what torch raises is ours.

    Raises:
        OutOfMemory: Of the device or the host.
        ProtocolError: Any other `RuntimeError`.
    """
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(device) from error
    except RuntimeError as error:
        # The CPU allocator, cuBLAS and cuDNN say it in words only.
        words = str(error).lower()
        if "memory" in words or "alloc" in words:
            raise _out_of_memory(device) from error
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ProtocolError(f"torch failed on {device}: {first}", stage="separate") from error


def _out_of_memory(device: str) -> OutOfMemory:
    return OutOfMemory(
        f"{device} ran out of memory while separating.",
        stage="separate",
        remedy="Close what else uses it, or use another engine.",
    )
