"""The forward passes over one track, a segment at a time from the disk and back to it.

What is in memory depends on the model's segments, not on the track's length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from tasks.contracts import SeparationSettings
from tasks.errors import ContractBroken, OutOfMemory
from tasks.separation.local.overlap_add import Merge, OverlapAdd
from tasks.separation.local.segments import Cut, Segment, cuts
from tasks.separation.mixtures import MixtureReader

if TYPE_CHECKING:
    import numpy as np
    import torch
    from demucs.apply import BagOfModels
    from numpy.typing import NDArray

Write = Callable[["NDArray[np.float32]"], None]


def separate_stream(
    model: BagOfModels,
    mixture: MixtureReader,
    device: str,
    settings: SeparationSettings,
    stems: Sequence[int],
    write: Write,
    on_segment: Callable[[float], None],
    *,
    batch: int = 1,
) -> None:
    """Separate one mixture, giving away its stems block by block.

    The same as `demucs.api.Separator`: normalised by mean and deviation of the mono mean,
    triangular overlap-add, the bag's weights. Sub-models that no wanted stem needs don't run.

    Args:
        model: On `device` already.
        mixture: Not silent throughout.
        settings: Overlap, shifts, seed.
        stems: Indexes of the wanted stems among the model's.
        write: Given blocks of shape (len(stems), channels, frames), in order, without a gap.
        on_segment: Called before each forward pass with the share done; may raise to stop.
        batch: Segments a forward pass.

    Raises:
        OutOfMemory: On the device or the host.
        ContractBroken: Torch failed in another way.
        CorruptAudio: The mixture can't be read.
    """
    with _exact(device):
        work = _Work(model, mixture, device, settings, stems)
        for block in work.run(batch, lambda: on_segment(work.done / work.segments)):
            if block.shape[-1]:
                write(block.mul(mixture.deviation).add(mixture.mean).numpy())


@contextmanager
def _exact(device: str) -> Iterator[None]:
    """Full precision, the same kernels on every run, and torch's failures as our errors."""
    import torch

    try:
        # cuDNN may otherwise time its kernels and pick another one on the next run.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(
                enabled=True, deterministic=True, benchmark=False, allow_tf32=False
            ),
        ):
            yield
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


class _Work:
    """All passes over one track: each network that is needed, at each shift."""

    def __init__(
        self,
        model: BagOfModels,
        mixture: MixtureReader,
        device: str,
        settings: SeparationSettings,
        stems: Sequence[int],
    ) -> None:
        self._passes = [
            _Pass(part, cut, mixture, device)
            for part in _parts(model, stems, settings.shifts or 1)
            for cut in cuts(
                part.network, mixture.frames, settings.overlap, settings.shifts, settings.seed
            )
        ]
        self._merge = Merge((len(stems), mixture.channels), len(self._passes))
        self.segments = sum(len(each.cut) for each in self._passes)
        self.done = 0

    def run(self, batch: int, before: Callable[[], None]) -> Iterator[torch.Tensor]:
        """What becomes complete with each forward pass, (stems, channels, frames)."""
        streams = [each.run(batch, before) for each in self._passes]
        while self.done < self.segments:
            which = self._merge.last
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

    network: Any
    rows: list[int]
    wanted: list[int]
    shares: list[float]


def _parts(model: BagOfModels, stems: Sequence[int], shifts: int) -> Iterator[_Part]:
    """The networks that have a say in a wanted stem: in `htdemucs_ft` one for each."""
    totals = [sum(row[stem] for row in model.weights) for stem in stems]
    for network, row in zip(model.models, model.weights, strict=True):
        wanted = [i for i, stem in enumerate(stems) if row[stem]]
        if wanted:
            rows = [stems[i] for i in wanted]
            shares = [row[stems[i]] / totals[i] / shifts for i in wanted]
            yield _Part(network, rows, wanted, shares)


class _Pass:
    """One network's way over the track, from its start or from a shift before it."""

    def __init__(self, part: _Part, cut: Cut, mixture: MixtureReader, device: str) -> None:
        self.part = part
        self.cut = cut
        self._mixture = mixture
        self._device = device

    def run(self, batch: int, before: Callable[[], None]) -> Iterator[tuple[torch.Tensor, int]]:
        """Blocks of the track's frames, without a gap, and the segments that each took."""
        import torch

        part, cut = self.part, self.cut
        shares = torch.tensor(part.shares, device=self._device)[:, None, None]
        adding = OverlapAdd(len(part.rows), self._mixture.channels, cut.segment, self._device)
        for group in _groups(cut.segments(part.network), batch):
            before()
            blocks = []
            for segment, estimate in zip(group, self._forward(group), strict=True):
                end = segment.lead + segment.length
                adding.add(estimate[part.rows, :, segment.lead : end])
                done = adding.take(min(cut.stride, cut.span - segment.offset))
                early = max(0, -(cut.base + segment.offset))
                blocks.append(done[..., early:] * shares)
            yield torch.cat(blocks, dim=-1).cpu(), len(group)

    def _forward(self, group: Sequence[Segment]) -> torch.Tensor:
        """(segments, sources, channels, frames) of segments that are alike long."""
        import torch

        waves = [self._mixture.normal(segment.start, segment.frames) for segment in group]
        given = torch.stack(waves).to(self._device)
        out: torch.Tensor = self.part.network(given)
        return out


def _groups(segments: Iterator[Segment], batch: int) -> Iterator[list[Segment]]:
    """Up to `batch` neighbours that the network is given alike many frames of."""
    for _, alike in groupby(segments, key=lambda segment: segment.frames):
        while group := list(islice(alike, batch)):
            yield group
