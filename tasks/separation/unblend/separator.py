"""The second family with the face of `LocalSeparator`: one mixture in, one `StemSet` out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.contracts import SeparationSettings
from tasks.separation.mixture_reader import MixtureReader
from tasks.separation.models.spec import ModelSpec
from tasks.separation.on_device import DeviceSeparator
from tasks.separation.unblend.adapter import failures_told, load, precision_of
from tasks.separation.unblend.windows import Joiner, Window, windows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WINDOW_S = 240.0
_FADE_S = 1.0


class UnblendSeparator(DeviceSeparator):
    """Separates with one model of the library; the device takes one track at a time.

    The library plans its batches, halves them when memory runs out, and picks the precision; what
    it is given is at most a few minutes of a track at a time, whatever the track's length.

    Args:
        spec: From `find_model`, of the family `unblend`.
        device: Torch's name: `cpu`, `cuda:0`, `mps`.
        reasons: Why this device, for the report.
        clear_cache_between_jobs: Give the GPU's cached memory back after each track.
        log_vram_usage: Log the GPU's memory after each track.
        window_s: About how much of a track is separated at a time, in seconds.

    Raises:
        LibraryMissing: `unblend` isn't installed, or can't be imported here.
        SettingsError: It can't use the device.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        device: str = "cpu",
        reasons: tuple[str, ...] = (),
        clear_cache_between_jobs: bool = False,
        log_vram_usage: bool = False,
        window_s: float = _WINDOW_S,
    ) -> None:
        super().__init__(
            spec,
            device=device,
            reasons=reasons,
            clear_cache_between_jobs=clear_cache_between_jobs,
            log_vram_usage=log_vram_usage,
        )
        self._precision = precision_of(device)
        self._window_s = window_s
        self._network: Any = None

    @property
    def precision(self) -> str:
        """What the library picks for the device."""
        return self._precision

    @property
    def backend(self) -> str:
        return "unblend"

    def _forget(self) -> None:
        self._network = None

    def _stream(
        self,
        reader: MixtureReader,
        stems: list[str],
        settings: SeparationSettings,
        write: Callable[[NDArray[np.float32]], None],
        on_share: Callable[[float], None],
    ) -> None:
        joiner = Joiner()
        for window in self._windows(reader.frames, settings.overlap):
            output = self._run(reader, window, stems, settings, on_share)
            for block in joiner.add(window, output):
                write(block)

    def _windows(self, frames: int, overlap: float) -> list[Window]:
        rate = self.spec.sample_rate_hz
        segment = round(self.spec.segment_s * rate)
        stride = max(1, int((1 - overlap) * segment))  # as the library rounds it
        return windows(frames, segment, stride, round(self._window_s * rate), round(_FADE_S * rate))

    def _run(
        self,
        reader: MixtureReader,
        window: Window,
        stems: list[str],
        settings: SeparationSettings,
        on_share: Callable[[float], None],
    ) -> NDArray[np.float32]:
        """The stems of one window, (stems, channels, frames)."""
        import numpy as np

        def on_event(event: str, facts: dict[str, Any]) -> None:
            if event == "chunk_complete":
                part = facts["completed_chunks"] / max(1, facts["total_chunks"])
                on_share((window.first + part * (window.last - window.first)) / reader.frames)

        on_share(window.first / reader.frames)
        network = self._loaded()
        wave = reader.samples(window.start, window.stop - window.start)
        with failures_told(self.device):
            found = network.separate(
                (wave, self.spec.sample_rate_hz),
                shifts=settings.shifts,
                split_overlap=settings.overlap,
                seed=settings.seed,
                progress_callback=on_event,
            )
        return np.stack([found.sources[name].numpy() for name in stems])

    def _loaded(self) -> Any:
        if self._network is None:
            self._network = load(self.spec, self.device)
        return self._network
