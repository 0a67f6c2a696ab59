"""How busy the GPU is while something runs, as the NVIDIA driver tells it."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

from tests.benchmarks.child import NotRun

_EVERY_S = 0.1

Samples = list[tuple[float, float]]


class _Rates(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


@contextmanager
def watching() -> Iterator[Samples]:
    """Seconds and percent of the driver's first GPU, ten times a second, while in the block.

    NVML's utilization: the share of its last sampling period in which any kernel ran. It says
    that the GPU had work, not that it was filled.

    Raises:
        NotRun: There is no NVML, or no GPU that it knows.
    """
    handle = ctypes.c_void_p()
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        raise NotRun(f"the driver's libnvidia-ml.so.1 isn't here ({error})") from error
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)):
        raise NotRun("NVML finds no GPU")
    samples: Samples = []
    ended = threading.Event()

    def sample() -> None:
        rates = _Rates()
        while not ended.wait(_EVERY_S):
            if not nvml.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(rates)):
                samples.append((time.monotonic(), float(rates.gpu)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
        nvml.nvmlShutdown()


def busy_share(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Share of time that the GPU was busy: of all of it, and from its first use to its last.

    Args:
        samples: Second and percent, in order of time; each holds until the next one.

    Returns:
        Two shares, 0 to 1; zeros where it wasn't used.
    """
    used = [number for number, (_, percent) in enumerate(samples) if percent > 0]
    if not used:
        return 0.0, 0.0
    return _mean(samples), _mean(samples[used[0] : used[-1] + 2])


def _mean(samples: Sequence[tuple[float, float]]) -> float:
    spans = [after[0] - before[0] for before, after in pairwise(samples)]
    busy = sum(span * percent for span, (_, percent) in zip(spans, samples, strict=False))
    return busy / sum(spans) / 100 if spans else samples[0][1] / 100
