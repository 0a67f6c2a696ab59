"""One network of a model, ready on its device: in which arithmetic, and by which library."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from tasks.contracts import LocalOptions, PrecisionClass
from tasks.separation.local.fused import FusedHTDemucs, is_plain
from tasks.separation.local.openvino_core import OpenVinoCore, is_installed
from tasks.separation.local.transforms import Transforms

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Network:
    """Turns segments into estimates.

    An HTDemucs runs as a `FusedHTDemucs` between transforms of our own, on a CPU with OpenVINO
    where that is installed; any other network as demucs wrote it, in float32.

    Args:
        network: Float32, on the CPU, in evaluation mode.
        weights: Its file, which names what is kept of a conversion.
        device: Torch's name.
        precision: Of the network between its transforms; these are always float32, and so are, in
            fp16 and bf16, the norms and the softmax.
    """

    def __init__(
        self,
        network: Any,
        weights: Path | None,
        device: str,
        precision: PrecisionClass = "fp32",
        options: LocalOptions | None = None,
    ) -> None:
        options = options or LocalOptions()
        self.samplerate: int = network.samplerate
        self.channels: int = network.audio_channels
        self.segment: Any = network.segment
        self._valid_length: Callable[[int], int] | None = None
        self._device = torch.device(device)
        self._network: Any = None
        self._core: Any = None
        if not is_plain(network):
            self._network = network.to(device)
            self._valid_length = getattr(network, "valid_length", None)
            self.precision: PrecisionClass = "fp32"
            return
        self.precision = precision
        frames = int(network.segment * network.samplerate)
        # Not the network's own method, which would keep all its weights beside the core's.
        self._valid_length = lambda length: frames
        self._transforms = Transforms(network.nfft, frames)
        self._transforms.to(device)
        steps = self._transforms.steps
        if device == "cpu" and options.openvino != "off" and weights and is_installed():
            self._core = OpenVinoCore.ready(
                weights,
                precision,
                lambda: FusedHTDemucs(network, steps).eval(),
                self._estimates,
                whatever_it_gains=options.openvino == "on",
            )
        if self._core is None:
            self._core = FusedHTDemucs(network, steps).eval().to(device)

    @property
    def backend(self) -> str:
        """The library that runs it."""
        core = self._core
        return "openvino" if isinstance(core, OpenVinoCore) and core.is_used else "torch"

    def valid_length(self, length: int) -> int:
        """Frames that the network has to be given for `length` of them to come out whole."""
        return int(self._valid_length(length)) if self._valid_length else length

    def compile(self) -> None:
        """Have torch compile it for the shapes that it will be given; the first call takes long."""
        if self._network is None and not isinstance(self._core, OpenVinoCore):
            self._core = torch.compile(self._core, dynamic=False)

    def __call__(self, waves: torch.Tensor) -> torch.Tensor:
        """Estimates of segments.

        Args:
            waves: (segments, channels, frames) on the device, float32, normalised.

        Returns:
            (segments, stems, channels, frames) on the device, float32.
        """
        return self._run(waves, self._precise())

    def exactly(self, waves: torch.Tensor) -> torch.Tensor:
        """The same in float32, whatever the precision."""
        return self._run(waves, nullcontext())

    def _run(self, waves: torch.Tensor, arithmetic: AbstractContextManager[Any]) -> torch.Tensor:
        if self._network is not None:
            out: torch.Tensor = self._network(waves)
            return out
        spectra = self._transforms(waves)
        with arithmetic:
            spectral, temporal = self._core(spectra, waves)
        return self._estimates(spectral, temporal)

    def _estimates(self, spectral: torch.Tensor, temporal: torch.Tensor) -> torch.Tensor:
        waves: torch.Tensor = self._transforms.inverse(spectral) + temporal
        segments, signals, frames = waves.shape
        return waves.view(segments, signals // self.channels, self.channels, frames)

    def _precise(self) -> AbstractContextManager[Any]:
        # OpenVINO has its precision compiled in.
        if self.precision == "fp32" or isinstance(self._core, OpenVinoCore):
            return nullcontext()
        return torch.autocast(self._device.type, _DTYPES[self.precision])
