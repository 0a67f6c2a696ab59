"""How many segments a device has room for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tasks.contracts import LocalOptions
from tasks.separation.local.batches import BatchPlan
from tasks.separation.on_device import empty_cache
from tasks.separation.tuning import Tuning

if TYPE_CHECKING:
    from tasks.separation.local.inference import Bag
    from tasks.separation.models.spec import ModelSpec

log = logging.getLogger(__name__)

LARGEST = 32
"""Segments; beyond it a GPU gains nothing and a track's end wastes more."""
_ROOM = 0.8
"""Share of the free memory that a plan may use: allocators fragment, others come and go."""


def make_plan(
    model: Bag, spec: ModelSpec, device: str, options: LocalOptions, tuning: Tuning
) -> BatchPlan:
    """The batch that is set, else the one that worked or was measured here, within free memory.

    A CPU takes one segment at a time: more gain nothing there and take memory.
    """

    def remember(size: int) -> None:
        log.info("%s: the next run starts with %d segments at once", device, size)
        tuning.note(spec, device, batch=size)

    size = options.batch
    if not size and device != "cpu":
        size = tuning.of(spec, device).batch or LARGEST
        if room := _room(model, device):
            size = max(1, min(size, room))
    plan = BatchPlan(size or 1, empty_cache=lambda: empty_cache(device), on_worked=remember)
    log.debug("%s: %d segments at once", device, plan.size)
    return plan


def _room(model: Bag, device: str) -> int:
    """Segments that fit into the memory that is free now; 0 where nobody can tell."""
    if not device.startswith("cuda"):
        return 0
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    each = segment_bytes_of(model, device)
    return int(free * _ROOM / each) if each else 0


def segment_bytes_of(model: Bag, device: str) -> int:
    """What one more segment takes at the peak of a pass, found by one pass of one (CUDA)."""
    import torch

    network = model.network(0)
    frames = network.valid_length(int(network.samplerate * network.segment))
    wave = torch.zeros(1, network.channels, frames, device=device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    with torch.inference_mode():
        network(wave)
    return int(torch.cuda.max_memory_allocated(device) - before)
