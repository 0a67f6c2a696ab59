"""What every engine of this machine does around its network: checks, spools, files, bookkeeping."""

from __future__ import annotations

import gc
import logging
import resource
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tasks.contracts import EngineName, Mixture, PrecisionClass, SeparationSettings, StemSet
from tasks.errors import ProtocolError, StemwrightError
from tasks.separation.deadline import Watch, default_deadline_s, refuse_hopeless
from tasks.separation.engine import Engine, EngineInfo
from tasks.separation.identity import separation_id
from tasks.separation.mixture_reader import MixtureReader
from tasks.separation.models.spec import ModelSpec
from tasks.separation.request import SeparationRequest
from tasks.separation.stem_choice import kept_stems
from tasks.separation.stem_files import Spool, check_format, common_gain, spools, write_stems
from tasks.separation.tuning import Tuning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Write = Callable[[NDArray[np.float32]], None]

log = logging.getLogger(__name__)


class DeviceSeparator(Engine):
    """Separates tracks on one device with one model, loaded once, at the first track.

    Safe to call from several threads.

    Args:
        spec: From `find_model`.
        device: Torch's name: `cpu`, `cuda:0`, `mps`, `xpu`.
        reasons: Why this device, for the report.
        clear_cache_between_jobs: Give the GPU's cached memory back after each track.
        log_vram_usage: Log the GPU's memory after each track.
        slots: Tracks that may be in flight on the device at once.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        device: str = "cpu",
        reasons: tuple[str, ...] = (),
        clear_cache_between_jobs: bool = False,
        log_vram_usage: bool = False,
        slots: int = 1,
    ) -> None:
        self.spec = spec
        self.device = device
        self.kind: EngineName = "local_cpu" if device.startswith("cpu") else "local_gpu"
        self.slots = slots
        self._reasons = reasons
        self._clear_cache = clear_cache_between_jobs
        self._log_vram = log_vram_usage
        self._seats = threading.BoundedSemaphore(slots)
        self._in_flight = 0
        self._counting = threading.Lock()
        self._tuning = Tuning()

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            name=self.kind,
            kind=self.kind,
            model=self.spec.name,
            sources=self.spec.sources,
            device=self.device,
            slots=self.slots,
        )

    @property
    @abstractmethod
    def precision(self) -> str:
        """The class of arithmetic: `fp32`, `fp16`, `bf16`. Part of a separation's identity."""

    @property
    def any_precision(self) -> bool:
        """Whether the precision was left to us, so that one is as good as another."""
        return True

    @property
    def backend(self) -> str:
        """The library that runs the network."""
        return "torch"

    @property
    def batch(self) -> int:
        """Segments in one forward pass; 0 where the library decides."""
        return 0

    @abstractmethod
    def _stream(
        self,
        reader: MixtureReader,
        stems: list[str],
        settings: SeparationSettings,
        write: Write,
        on_share: Callable[[float], None],
    ) -> None:
        """Separate, giving blocks (stems, channels, frames) to `write` in order."""

    @abstractmethod
    def _forget(self) -> None:
        """Let go of the model."""

    def separation_id(self, settings: SeparationSettings) -> str:
        """The identity that a separation with these settings has on this device."""
        return separation_id(self.spec, settings, precision=self.precision)

    def accepted_ids(self, settings: SeparationSettings) -> tuple[str, ...]:
        """Of every precision, where it was left to us: another device makes no track anew."""
        own = super().accepted_ids(settings)
        if not self.any_precision:
            return own
        classes = get_args(PrecisionClass)
        others = (separation_id(self.spec, settings, precision=one) for one in classes)
        return tuple(dict.fromkeys((*own, *others)))

    def separate(self, request: SeparationRequest) -> StemSet:
        """Separate a mixture into files in `request.folder`: same input, same bytes.

        The deadline is looked at between segments; a CPU has `default_deadline_s` without one. One
        that can't be kept, by what was measured here, is refused at once.

        Raises:
            SettingsError: A stem that the model hasn't, or FLAC with float samples.
            ProtocolError: A mixture of another rate or channel count, or output that isn't finite.
            CorruptAudio, SourceMissing: The mixture can't be read.
            OutOfMemory, DiskFull, DeadlineMissed, Interrupted, WeightsRefused.
        """
        try:
            return self._separate(request)
        except StemwrightError as error:
            raise error.with_context(track=request.label, stage="separate") from error.__cause__

    def close(self) -> None:
        """Let go of the model and of the device's memory. A later `separate` loads it again."""
        for _ in range(self.slots):
            self._seats.acquire()
        try:
            self._forget()
            self._empty_cache()
        finally:
            for _ in range(self.slots):
                self._seats.release()

    def _separate(self, request: SeparationRequest) -> StemSet:
        mixture, settings = request.mixture, request.settings
        kept = kept_stems(self.spec.name, self.spec.sources, settings.stems)
        check_format(settings.format, settings.bit_depth)
        self._check_fit(mixture)
        if not mixture.silent:
            speed = self._tuning.of(self.spec, self.device).speed if request.deadline_s else 0.0
            refuse_hopeless(mixture.duration_s, request.deadline_s, speed)
        written = tuple(name for name in kept if not request.only or name in request.only)
        # Stems made again get the gain that the others have, which takes all of them to find.
        made = kept if request.gain is None else written
        with (
            MixtureReader(mixture) as reader,
            spools(request.folder, made, mixture.channels) as samples,
        ):
            with self._seats:
                watch = self._watch(request)
                self._fill(reader, samples, request, watch)
            gain = request.gain
            paths, gain = write_stems(
                request.folder,
                {name: samples[name] for name in written},
                mixture.sample_rate_hz,
                settings.format,
                settings.bit_depth,
                common_gain(samples, settings.bit_depth) if gain is None else gain,
                track=request.label,
            )
        request.callbacks.on_progress(1.0)
        return self._stem_set(request, kept, paths, gain, watch.elapsed_s)

    def _watch(self, request: SeparationRequest) -> Watch:
        # The clock starts when the device is this track's: waiting for it isn't its fault.
        limit = request.deadline_s
        if limit is None:
            speed = self._tuning.of(self.spec, self.device).speed
            limit = default_deadline_s(request.mixture.duration_s, self.device, speed)
        return Watch(request.label, limit, request.callbacks.stopping)

    def _stem_set(
        self,
        request: SeparationRequest,
        kept: tuple[str, ...],
        paths: dict[str, Path],
        gain: float,
        took_s: float,
    ) -> StemSet:
        mixture = request.mixture
        return StemSet(
            track_id=mixture.track_id,
            separation_id=self.separation_id(request.settings),
            model=self.spec.name,
            weights_sha256=self.spec.weights_sha256,
            expected=kept,
            stems=paths,
            all_stems=len(kept) == len(self.spec.sources),
            sample_rate_hz=mixture.sample_rate_hz,
            channels=mixture.channels,
            frames=mixture.frames,
            gain=gain,
            engine=self.kind,
            provider="local",
            device=self.device,
            device_reasons=self._reasons,
            stem_origins=dict.fromkeys(paths, self.kind),
            separation_s=took_s,
            backend=self.backend,
            precision=self.precision,
            batch=self.batch,
            peak_vram_bytes=self._peak_vram_bytes(),
            peak_rss_bytes=peak_rss_bytes(),
        )

    def _fill(
        self,
        reader: MixtureReader,
        samples: dict[str, Spool],
        request: SeparationRequest,
        watch: Watch,
    ) -> None:
        """Separate into the spools; digital silence needs no forward pass: its stems are silent."""

        def write(block: NDArray[np.float32]) -> None:
            for spool, stem in zip(samples.values(), block, strict=True):
                spool.write(stem)

        def on_share(done: float) -> None:
            watch.check(done)
            request.callbacks.on_progress(done)

        if reader.silent:
            for block in reader.silence(len(samples)):
                write(block)
            return
        with self._counting:
            self._in_flight += 1
        try:
            self._stream(reader, list(samples), request.settings, write, on_share)
        finally:
            with self._counting:
                self._in_flight -= 1
                alone = not self._in_flight
            self._after_track(alone)

    def _check_fit(self, mixture: Mixture) -> None:
        ours = (self.spec.sample_rate_hz, self.spec.channels)
        if (mixture.sample_rate_hz, mixture.channels) != ours:
            raise ProtocolError(
                f"the mixture has {mixture.channels} channels at {mixture.sample_rate_hz} Hz, "
                f"{self.spec.name} needs {ours[1]} at {ours[0]} Hz.",
                remedy="Normalize it to the model's rate first.",
            )

    def _peak_vram_bytes(self) -> int | None:
        if not self.device.startswith("cuda"):
            return None
        import torch

        return int(torch.cuda.max_memory_allocated(self.device))

    def _after_track(self, alone: bool) -> None:
        if self._log_vram and self.device.startswith("cuda"):
            import torch

            megabyte = 1024**2
            log.info(
                "%s: %d MiB in use, %d MiB at the peak",
                self.device,
                torch.cuda.memory_allocated(self.device) // megabyte,
                torch.cuda.max_memory_allocated(self.device) // megabyte,
            )
        # Beside other tracks there is nothing to give back that they don't need at once.
        if self._clear_cache and alone:
            self._empty_cache()

    def _empty_cache(self) -> None:
        if not self.device.startswith("cpu"):
            empty_cache(self.device)


def empty_cache(device: str) -> None:
    """Give a device's cached memory back; on a CPU, what Python no longer needs."""
    gc.collect()
    kind = device.partition(":")[0]
    if kind != "cpu":
        import torch

        getattr(torch, kind).empty_cache()


def peak_rss_bytes() -> int:
    """This process's largest resident memory so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
