"""The second family with the face of `LocalSeparator`: one mixture in, one `StemSet` out."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contracts import EngineName, Mixture, Progress, SeparationSettings, StemSet
from tasks.errors import ContractBroken, StemwrightError
from tasks.separation.deadline import Watch, default_deadline_s
from tasks.separation.identity import separation_id
from tasks.separation.mixtures import MixtureReader
from tasks.separation.models.spec import ModelSpec
from tasks.separation.stem_choice import kept_stems
from tasks.separation.stem_files import Spool, check_format, common_gain, spools, write_stems
from tasks.separation.unblend.library import failures_told, load, precision_of
from tasks.separation.unblend.windows import Joiner, Window, windows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_WINDOW_S = 240.0
_FADE_S = 1.0


class UnblendSeparator:
    """Separates tracks on one device with one model of the library, loaded at the first track.

    The library plans its batches, halves them when memory runs out, and picks the precision; what
    it is given is at most a few minutes of a track at a time, whatever the track's length.

    Safe to call from several threads; the device takes one track at a time.

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
        self.spec = spec
        self.device = device
        self.precision = precision_of(device)
        self.engine: EngineName = "local_cpu" if device.startswith("cpu") else "local_gpu"
        self._reasons = reasons
        self._clear_cache = clear_cache_between_jobs
        self._log_vram = log_vram_usage
        self._window_s = window_s
        self._network: Any = None
        self._lock = threading.Lock()

    def separation_id(self, settings: SeparationSettings) -> str:
        """The identity that a separation with these settings has on this device."""
        return separation_id(self.spec, settings, precision=self.precision)

    def separate(
        self,
        mixture: Mixture,
        folder: Path,
        settings: SeparationSettings,
        *,
        only: frozenset[str] | None = None,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        stop: Callable[[], bool] | None = None,
        gain: float | None = None,
    ) -> StemSet:
        """Separate a mixture into files in `folder`; arguments as `LocalSeparator.separate`.

        Raises:
            SettingsError: A stem that the model hasn't, FLAC with float samples, or shifts that
                the library doesn't do.
            ContractBroken: A mixture of another rate or channel count, or output that isn't finite.
            CorruptAudio, SourceMissing: The mixture can't be read.
            OutOfMemory, DiskFull, DeadlineMissed, Interrupted, WeightsRefused.
        """
        try:
            return self._separate(mixture, folder, settings, only, progress, deadline_s, stop, gain)
        except StemwrightError as error:
            raise error.about(track=mixture.ref.label, stage="separate") from error.__cause__

    def close(self) -> None:
        """Let go of the model and of the device's memory. A later `separate` loads it again."""
        with self._lock:
            self._network = None
            self._release()

    def __enter__(self) -> UnblendSeparator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _separate(
        self,
        mixture: Mixture,
        folder: Path,
        settings: SeparationSettings,
        only: frozenset[str] | None,
        progress: Progress | None,
        deadline_s: float | None,
        stop: Callable[[], bool] | None,
        gain: float | None,
    ) -> StemSet:
        kept = kept_stems(self.spec.name, self.spec.sources, settings.stems)
        check_format(settings.format, settings.bit_depth)
        self._check_fit(mixture)
        written = tuple(name for name in kept if only is None or name in only)
        # Stems made again get the gain that the others have, which takes all of them to find.
        made = kept if gain is None else written
        with MixtureReader(mixture) as reader, spools(folder, made, mixture.channels) as samples:
            with self._lock:
                # The clock starts when the device is this track's: waiting for it isn't its fault.
                limit = default_deadline_s(mixture.duration_s, self.device)
                watch = Watch(mixture.ref.label, limit if deadline_s is None else deadline_s, stop)
                self._fill(reader, samples, settings, watch, progress)
            gain = common_gain(samples, settings.bit_depth) if gain is None else gain
            paths, gain = write_stems(
                folder,
                {name: samples[name] for name in written},
                mixture.sample_rate_hz,
                settings.format,
                settings.bit_depth,
                gain,
                track=mixture.ref.label,
            )
        if progress:
            progress(1.0)
        return StemSet(
            track_id=mixture.track_id,
            separation_id=self.separation_id(settings),
            model=self.spec.name,
            weights_sha256=self.spec.weights_sha256,
            expected=kept,
            stems=paths,
            all_stems=len(kept) == len(self.spec.sources),
            sample_rate_hz=mixture.sample_rate_hz,
            channels=mixture.channels,
            frames=mixture.frames,
            gain=gain,
            engine=self.engine,
            provider="local",
            device=self.device,
            device_reasons=self._reasons,
            stem_origins=dict.fromkeys(paths, self.engine),
            separation_s=watch.elapsed_s,
        )

    def _fill(
        self,
        reader: MixtureReader,
        samples: dict[str, Spool],
        settings: SeparationSettings,
        watch: Watch,
        progress: Progress | None,
    ) -> None:
        """Separate into the spools; digital silence needs no forward pass: its stems are silent."""

        def write(block: NDArray[np.float32]) -> None:
            for spool, stem in zip(samples.values(), block, strict=True):
                spool.write(stem)

        def on_share(done: float) -> None:
            watch.check(done)
            if progress:
                progress(done)

        if reader.silent:
            for block in reader.silence(len(samples)):
                write(block)
            return
        joiner = Joiner()
        try:
            for window in self._windows(reader.frames, settings.overlap):
                output = self._run(reader, window, list(samples), settings, on_share)
                for block in joiner.add(window, output):
                    write(block)
        finally:
            self._after_track()

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

    def _check_fit(self, mixture: Mixture) -> None:
        ours = (self.spec.sample_rate_hz, self.spec.channels)
        if (mixture.sample_rate_hz, mixture.channels) != ours:
            raise ContractBroken(
                f"the mixture has {mixture.channels} channels at {mixture.sample_rate_hz} Hz, "
                f"{self.spec.name} needs {ours[1]} at {ours[0]} Hz.",
                remedy="Normalize it to the model's rate first.",
            )

    def _loaded(self) -> Any:
        if self._network is None:
            self._network = load(self.spec, self.device)
        return self._network

    def _after_track(self) -> None:
        if self._log_vram and self.device.startswith("cuda"):
            import torch

            megabyte = 1024**2
            logger.info(
                "%s: %d MiB in use, %d MiB at the peak",
                self.device,
                torch.cuda.memory_allocated(self.device) // megabyte,
                torch.cuda.max_memory_allocated(self.device) // megabyte,
            )
            torch.cuda.reset_peak_memory_stats(self.device)
        if self._clear_cache:
            self._release()

    def _release(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            gc.collect()
            torch.cuda.empty_cache()
