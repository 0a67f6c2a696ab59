"""The device and the queue in front of it: segments of all tracks in flight, run in batches.

There is no thread of its own. Whoever waits for a segment takes the device and runs the next batch,
of everybody's segments: with one track in flight that is the track itself, with several the device
never waits for one of them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.errors import OutOfMemory, StemwrightError
from tasks.separation.torch_faults import torch_told

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


class BatchPlan:
    """Segments in one forward pass, and what is left to try when they don't fit.

    The ladder: half the batch; the device's cache emptied; one segment at a time. It starts anew
    once something worked.

    Args:
        size: To begin with.
        empty_cache: Gives the device's cached memory back.
        on_worked: Told the size, once, that worked after memory ran out.
    """

    def __init__(
        self,
        size: int,
        *,
        empty_cache: Callable[[], None] = lambda: None,
        on_worked: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.size = max(1, size)
        self.steps: list[str] = []
        """What was done about memory so far, in words."""
        self._empty_cache = empty_cache
        self._on_worked = on_worked
        self._tried: set[str] = set()

    def out_of_memory(self, device: str) -> bool:
        """Take the next step down; False where none is left."""
        step = self._next_step()
        if not step:
            log.warning("%s ran out of memory with one segment at a time", device)
            return False
        self._tried.add(step)
        if step == "halve":
            self.size //= 2
        elif step == "empty":
            self._empty_cache()
        else:
            self.size = 1
        words = {
            "halve": f"half the batch, {self.size}",
            "empty": f"its cache emptied, again with {self.size}",
            "one": "one segment at a time",
        }[step]
        self.steps.append(words)
        log.warning("%s ran out of memory: %s", device, words)
        return True

    def worked(self) -> None:
        """A pass of this size was done."""
        if self._tried:
            self._tried.clear()
            self._on_worked(self.size)

    def _next_step(self) -> str:
        if "halve" not in self._tried and self.size > 1:
            return "halve"
        if "empty" not in self._tried:
            return "empty"
        return "one" if self.size > 1 else ""


@dataclass(eq=False)
class Ticket:
    """One segment's place in the queue; `wave` is (channels, frames), on the host."""

    network: Any
    wave: torch.Tensor | None
    estimate: torch.Tensor | None = None
    failure: StemwrightError | None = None

    @property
    def ended(self) -> bool:
        return self.estimate is not None or self.failure is not None


class Batcher:
    """Runs segments on one device. Safe to call from several threads.

    On an accelerator each batch has the plan's full size, padded with silence where too few
    segments wait: what a segment becomes doesn't depend on its neighbours' number.

    Args:
        device: Torch's name.
        plan: How many segments a batch has.
    """

    def __init__(self, device: str, plan: BatchPlan) -> None:
        self.device = device
        self.plan = plan
        self._turn = threading.Lock()
        self._queue: list[Ticket] = []
        self._queued = threading.Lock()

    def submit(self, network: Any, wave: torch.Tensor) -> Ticket:
        """Queue a segment."""
        ticket = Ticket(network, wave)
        with self._queued:
            self._queue.append(ticket)
        return ticket

    def cancel(self, tickets: list[Ticket]) -> None:
        """Forget segments that nobody waits for any more."""
        with self._queued:
            self._queue = [one for one in self._queue if one not in tickets]

    def result(self, ticket: Ticket) -> torch.Tensor:
        """The estimate of a segment, (stems, channels, frames), on the device.

        Raises:
            OutOfMemory: Even for one segment alone.
            ProtocolError: Torch failed in another way.
        """
        while not ticket.ended:
            with self._turn:
                group = [] if ticket.ended else self._take(ticket)
                if group:
                    self._run(group)
        if ticket.failure:
            raise ticket.failure
        if ticket.estimate is None:
            raise RuntimeError("a segment ended without an estimate")
        return ticket.estimate

    def _take(self, ticket: Ticket) -> list[Ticket]:
        """This segment, and those that can go with it, the oldest first."""
        with self._queued:
            alike = [one for one in self._queue if _alike(one, ticket)]
            group = [ticket, *(one for one in alike if one is not ticket)][: self.plan.size]
            self._queue = [one for one in self._queue if one not in group]
        return group

    def _run(self, group: list[Ticket]) -> None:
        while group:
            now, later = group[: self.plan.size], group[self.plan.size :]
            try:
                with torch_told(self.device):
                    estimates = self._forward(now)
            except OutOfMemory as error:
                if self.plan.out_of_memory(self.device):
                    continue
                self._fail(group, error)
                return
            except StemwrightError as error:
                self._fail(now, error)
            else:
                self.plan.worked()
                for ticket, estimate in zip(now, estimates, strict=True):
                    ticket.estimate, ticket.wave = estimate, None
            group = later

    def _forward(self, group: list[Ticket]) -> list[torch.Tensor]:
        import torch

        network = group[0].network
        waves = torch.stack([one.wave for one in group if one.wave is not None])
        if self.device != "cpu":
            missing = self.plan.size - len(group)
            waves = torch.nn.functional.pad(waves, (0, 0, 0, 0, 0, missing))
        waves = _uploaded(waves, self.device)
        estimates = network(waves)
        # One wait a batch, for a flag: float32 has the range that the spool's own check needs.
        if network.precision != "fp32" and not bool(torch.isfinite(estimates).all()):
            log.warning("%s on %s gave numbers that aren't finite; again in fp32",
                        network.precision, self.device)  # fmt: skip
            estimates = network.exactly(waves)
        return list(estimates[: len(group)])

    def _fail(self, group: list[Ticket], error: StemwrightError) -> None:
        for ticket in group:
            ticket.failure = copy(error)  # each track adds its own name
            ticket.failure.__cause__ = error.__cause__


def _alike(one: Ticket, other: Ticket) -> bool:
    if one.network is not other.network or one.wave is None or other.wave is None:
        return False
    return one.wave.shape == other.wave.shape


def _uploaded(waves: torch.Tensor, device: str) -> torch.Tensor:
    if device.startswith("cuda"):
        # From page-locked memory the copy runs beside the device's work.
        return waves.pin_memory().to(device, non_blocking=True)
    return waves.to(device)


class Outbox:
    """Blocks on their way from the device, one behind, so that nobody waits for the newest."""

    def __init__(self, device: str) -> None:
        self._beside = device.startswith("cuda")
        self._waiting: tuple[torch.Tensor, Any] | None = None

    def swap(self, block: torch.Tensor | None) -> torch.Tensor | None:
        """Send a block, or nothing more; gives the one that has arrived, on the host."""
        if not self._beside:
            return None if block is None else block.cpu()
        import torch

        before, self._waiting = self._waiting, None
        if block is not None:
            host = torch.empty(block.shape, dtype=block.dtype, pin_memory=True)
            host.copy_(block, non_blocking=True)
            event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._waiting = host, event
        if before is None:
            return None
        before[1].synchronize()
        return before[0]
