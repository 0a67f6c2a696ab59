"""The owner of the model and the device for a whole run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contracts import EngineName, Mixture, Progress, SeparationSettings, StemSet
from tasks.errors import ContractBroken, StemwrightError
from tasks.separation.deadline import Watch, default_deadline_s
from tasks.separation.identity import separation_id
from tasks.separation.mixtures import MixtureReader
from tasks.separation.models.spec import ModelSpec
from tasks.separation.stem_choice import kept_stems
from tasks.separation.stem_files import Spool, check_format, common_gain, spools, write_stems

if TYPE_CHECKING:
    import numpy as np
    from demucs.apply import BagOfModels
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


class LocalSeparator:
    """Separates tracks on one device with one model, loaded once, at the first track.

    Safe to call from several threads; the device takes one track at a time.

    Args:
        spec: From `find_model`.
        device: Torch's name: `cpu`, `cuda:0`, `mps`, `xpu`.
        threads: CPU threads for torch (process-wide); None leaves torch's own choice.
        reasons: Why this device, for the report.
        clear_cache_between_jobs: Give the GPU's cached memory back after each track.
        log_vram_usage: Log the GPU's memory after each track.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        device: str = "cpu",
        threads: int | None = None,
        reasons: tuple[str, ...] = (),
        clear_cache_between_jobs: bool = False,
        log_vram_usage: bool = False,
    ) -> None:
        self.spec = spec
        self.device = device
        self.engine: EngineName = "local_cpu" if device.startswith("cpu") else "local_gpu"
        self._threads = threads
        self._reasons = reasons
        self._clear_cache = clear_cache_between_jobs
        self._log_vram = log_vram_usage
        self._model: BagOfModels | None = None
        self._lock = threading.Lock()

    def separation_id(self, settings: SeparationSettings) -> str:
        """The identity that a separation with these settings has."""
        return separation_id(self.spec, settings)

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
        """Separate a mixture into files in `folder`. Deterministic: same input, same bytes.

        Args:
            mixture: At the model's rate and channel count.
            folder: Where `NAME.flac` or `NAME.wav` go.
            settings: `stems` says which are kept.
            only: Write only these of the kept stems: those that are to be made again.
            progress: Told the share done.
            deadline_s: Looked at between segments; a CPU has `default_deadline_s` without it.
            stop: Asked between segments whether to end.
            gain: The gain of the first writing, when stems are made again.

        Raises:
            SettingsError: A stem that the model hasn't, or FLAC with float samples.
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
            self._model = None
            self._release()

    def __enter__(self) -> LocalSeparator:
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
        from tasks.separation.local.inference import separate_stream

        def write(block: NDArray[np.float32]) -> None:
            for spool, stem in zip(samples.values(), block, strict=True):
                spool.write(stem)

        def on_segment(done: float) -> None:
            watch.check(done)
            if progress:
                progress(done)

        if reader.silent:
            for block in reader.silence(len(samples)):
                write(block)
            return
        stems = [self.spec.sources.index(name) for name in samples]
        try:
            separate_stream(self._loaded(), reader, self.device, settings, stems, write, on_segment)
        finally:
            self._after_track()

    def _check_fit(self, mixture: Mixture) -> None:
        ours = (self.spec.sample_rate_hz, self.spec.channels)
        if (mixture.sample_rate_hz, mixture.channels) != ours:
            raise ContractBroken(
                f"the mixture has {mixture.channels} channels at {mixture.sample_rate_hz} Hz, "
                f"{self.spec.name} needs {ours[1]} at {ours[0]} Hz.",
                remedy="Normalize it to the model's rate first.",
            )

    def _loaded(self) -> BagOfModels:
        if self._model is None:
            import torch

            from tasks.separation.models.loading import load_model

            if self._threads:
                torch.set_num_threads(self._threads)
            self._model = load_model(self.spec, self.device)
        return self._model

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

            torch.cuda.empty_cache()
