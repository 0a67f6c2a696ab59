"""The forward passes over one track, a segment at a time from the disk and back to it.

What is in memory depends on the model's segments, not on the track's length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tasks.contracts import SeparationSettings
from tasks.separation.local.batches import Batcher, Outbox, Ticket
from tasks.separation.local.overlap_add import Merge, OverlapAdd
from tasks.separation.local.segments import Cut, Segment, cuts
from tasks.separation.mixture_reader import MixtureReader
from tasks.separation.torch_faults import torch_told

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from tasks.separation.local.network import Network

Write = Callable[["NDArray[np.float32]"], None]


class Bag(Protocol):
    """Networks that are averaged; `weights` has a row for each, its say in each stem."""

    @property
    def weights(self) -> Sequence[Sequence[float]]: ...

    def network(self, index: int) -> Network: ...


def separate_stream(
    model: Bag,
    mixture: MixtureReader,
    batcher: Batcher,
    settings: SeparationSettings,
    stems: Sequence[int],
    write: Write,
    on_segment: Callable[[float], None],
) -> None:
    """Separate one mixture, giving away its stems block by block.

    The same as `demucs.api.Separator`: normalised by mean and deviation of the mono mean,
    triangular overlap-add, the bag's weights; but the mean is given back once, shared by all the
    model's stems, so that they sum to the mixture whatever its offset. Sub-models that no wanted
    stem needs don't run.

    Args:
        model: On the batcher's device already.
        mixture: Not silent throughout.
        batcher: Runs the segments, of this track and of others.
        settings: Overlap, shifts, seed.
        stems: Indexes of the wanted stems among the model's.
        write: Given blocks of shape (len(stems), channels, frames), in order, without a gap.
        on_segment: Called before each segment with the share done; may raise to stop.

    Raises:
        OutOfMemory: On the device or the host, whatever the batch.
        ProtocolError: Torch failed in another way.
        CorruptAudio: The mixture can't be read.
    """
    with _exact(batcher.device):
        work = _Work(model, mixture, batcher, settings, stems)
        # demucs gives the whole mean back to every stem, whose sum then has it several times.
        mean = mixture.mean / len(model.weights[0])
        for block in work.run(lambda: on_segment(work.done / work.segments)):
            if block.shape[-1]:
                write(block.mul(mixture.deviation).add(mean).numpy())


@contextmanager
def _exact(device: str) -> Iterator[None]:
    """The same kernels on every run, and torch's failures as our errors."""
    import torch

    # cuDNN may otherwise time its kernels and pick another one on the next run.
    flags = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, benchmark=False, allow_tf32=False
    )
    with torch_told(device), torch.inference_mode(), flags:
        yield


class _Work:
    """All passes over one track: each network that is needed, at each shift."""

    def __init__(
        self,
        model: Bag,
        mixture: MixtureReader,
        batcher: Batcher,
        settings: SeparationSettings,
        stems: Sequence[int],
    ) -> None:
        self._frames = mixture.frames
        self._passes = [
            _Pass(part, cut, mixture, batcher)
            for part in _parts(model, stems, settings.shifts or 1)
            for cut in cuts(
                part.network, mixture.frames, settings.overlap, settings.shifts, settings.seed
            )
        ]
        self._merge = Merge((len(stems), mixture.channels), len(self._passes))
        self.segments = sum(len(each.cut) for each in self._passes)
        self.done = 0

    def run(self, before: Callable[[], None]) -> Iterator[torch.Tensor]:
        """What becomes complete with each segment, (stems, channels, frames)."""
        streams = [each.run(before) for each in self._passes]
        while (which := self._merge.behind(self._frames)) is not None:
            block, taken = next(streams[which])
            self.done += taken
            yield self._merge.add(which, self._passes[which].part.wanted, block)


@dataclass(frozen=True)
class _Part:
    """One network of a bag, and its say.

    Attributes:
        network: On the device.
        rows: Its outputs that count.
        wanted: Which of the wanted stems they are.
        shares: What each counts in the sum over all passes.
    """

    network: Network
    rows: list[int]
    wanted: list[int]
    shares: list[float]


def _parts(model: Bag, stems: Sequence[int], shifts: int) -> Iterator[_Part]:
    """The networks that have a say in a wanted stem: in `htdemucs_ft` one for each."""
    totals = [sum(row[stem] for row in model.weights) for stem in stems]
    for index, row in enumerate(model.weights):
        wanted = [i for i, stem in enumerate(stems) if row[stem]]
        if wanted:
            rows = [stems[i] for i in wanted]
            shares = [row[stems[i]] / totals[i] / shifts for i in wanted]
            yield _Part(model.network(index), rows, wanted, shares)


class _Pass:
    """One network's way over the track, from its start or from a shift before it."""

    def __init__(self, part: _Part, cut: Cut, mixture: MixtureReader, batcher: Batcher) -> None:
        self.part = part
        self.cut = cut
        self._mixture = mixture
        self._batcher = batcher

    def run(self, before: Callable[[], None]) -> Iterator[tuple[torch.Tensor, int]]:
        """Blocks of the track's frames, without a gap, and the segments that each took."""
        import torch

        part, cut, device = self.part, self.cut, self._batcher.device
        shares = torch.tensor(part.shares, device=device)[:, None, None]
        adding = OverlapAdd(len(part.rows), self._mixture.channels, cut.segment, device)
        outbox = Outbox(device)
        for segment, estimate in self._estimates(before):
            end = segment.lead + segment.length
            adding.add(estimate[part.rows, :, segment.lead : end])
            done = adding.take(min(cut.stride, cut.span - segment.offset))
            early = max(0, -(cut.base + segment.offset))
            arrived = outbox.swap(done[..., early:] * shares)
            yield self._nothing() if arrived is None else arrived, 1
        if (last := outbox.swap(None)) is not None:
            yield last, 0

    def _estimates(self, before: Callable[[], None]) -> Iterator[tuple[Segment, torch.Tensor]]:
        """Each segment with its estimate; as many are queued as a batch can hold."""
        ahead: deque[tuple[Segment, Ticket]] = deque()
        segments = self.cut.segments(self.part.network)
        try:
            while True:
                while len(ahead) < self._batcher.plan.size and (one := next(segments, None)):
                    wave = self._mixture.normal(one.start, one.frames)
                    ahead.append((one, self._batcher.submit(self.part.network, wave)))
                if not ahead:
                    return
                before()
                segment, ticket = ahead[0]
                estimate = self._batcher.result(ticket)
                ahead.popleft()
                yield segment, estimate
        finally:
            self._batcher.cancel([ticket for _, ticket in ahead])

    def _nothing(self) -> torch.Tensor:
        import torch

        return torch.zeros(len(self.part.rows), self._mixture.channels, 0)
