"""The owner of the model and the device for a whole run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.contracts import LocalOptions, PrecisionClass, SeparationSettings
from tasks.errors import SettingsError
from tasks.separation.mixture_reader import MixtureReader
from tasks.separation.models.spec import ModelSpec
from tasks.separation.on_device import DeviceSeparator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tasks.separation.local.batches import Batcher
    from tasks.separation.local.loading import LoadedModel

log = logging.getLogger(__name__)

SLOTS = {"cpu": 1, "cuda": 3}
"""Tracks in flight on a device: on a GPU, one is read and one written while one is separated."""


def auto_precision(device: str) -> PrecisionClass:
    """Return the precision that `auto` means on a kind of device; nothing is measured for it.

    On CUDA fp16 is several times as fast, and what is fragile in a network stays in fp32 there.
    """
    return "fp16" if device.startswith("cuda") else "fp32"


class LocalSeparator(DeviceSeparator):
    """Separates tracks with an HTDemucs, HDemucs or Demucs, or a bag of them.

    The model is loaded once, at the first track. On a GPU the segments of up to three tracks go
    through it in batches; a CPU takes one track at a time.

    Args:
        spec: From `find_model`.
        device: Torch's name: `cpu`, `cuda:0`, `mps`, `xpu`.
        threads: CPU threads for torch (process-wide); None leaves torch's own choice.
        reasons: Why this device, for the report.
        clear_cache_between_jobs: Give the GPU's cached memory back after each track.
        log_vram_usage: Log the GPU's memory after each track.
        options: Arithmetic, batch, libraries.

    Raises:
        SettingsError: fp16 on a CPU.
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
        options: LocalOptions | None = None,
    ) -> None:
        super().__init__(
            spec,
            device=device,
            reasons=reasons,
            clear_cache_between_jobs=clear_cache_between_jobs,
            log_vram_usage=log_vram_usage,
            slots=SLOTS.get(device.partition(":")[0], 1),
        )
        self.options = options or LocalOptions()
        if self.options.precision == "fp16" and device == "cpu":
            raise SettingsError("fp16 is for GPUs.", remedy="Set local.precision to bf16 or fp32.")
        self._threads = threads
        self._loading = threading.Lock()
        self._model: LoadedModel | None = None
        self._batcher: Batcher | None = None
        self._audio_s = 0.0
        self._compiled = False

    @property
    def precision(self) -> PrecisionClass:
        """What is set, else what the rule for this kind of device says."""
        asked = self.options.precision
        return auto_precision(self.device) if asked == "auto" else asked

    @property
    def any_precision(self) -> bool:
        return self.options.precision == "auto"

    @property
    def backend(self) -> str:
        return "+".join(self._model.backends) if self._model else ""

    @property
    def batch(self) -> int:
        return self._batcher.plan.size if self._batcher else 0

    def _forget(self) -> None:
        self._model = self._batcher = None

    def _stream(
        self,
        reader: MixtureReader,
        stems: list[str],
        settings: SeparationSettings,
        write: Callable[[NDArray[np.float32]], None],
        on_share: Callable[[float], None],
    ) -> None:
        from tasks.separation.local.inference import separate_stream

        model, batcher = self._loaded()
        wanted = [self.spec.sources.index(name) for name in stems]
        started: list[float] = []

        def on_segment(done: float) -> None:
            on_share(done)
            # The first segments pay for what is made once.
            if not started and done:
                started.extend((time.monotonic(), done))

        separate_stream(model, reader, batcher, settings, wanted, write, on_segment)
        seconds = reader.frames / self.spec.sample_rate_hz
        self._audio_s += seconds
        if started and not settings.shifts and len(stems) == len(self.spec.sources):
            took_s = time.monotonic() - started[0]
            share = 1 - started[1]
            if took_s > 0 and share * seconds >= _TELLING_S:
                self._tuning.note(self.spec, self.device, speed=share * seconds / took_s)

    def _loaded(self) -> tuple[LoadedModel, Batcher]:
        with self._loading:
            if self._model is None or self._batcher is None:
                self._model, self._batcher = self._load()
            self._compile_if_it_pays(self._model)
            return self._model, self._batcher

    def _load(self) -> tuple[LoadedModel, Batcher]:
        import torch

        from tasks.separation.local.allocator import keep_freed_memory
        from tasks.separation.local.batches import Batcher
        from tasks.separation.local.loading import LoadedModel
        from tasks.separation.local.memory import make_plan

        if self._threads:
            torch.set_num_threads(self._threads)
        if self.device == "cpu":
            keep_freed_memory()
        model = LoadedModel(self.spec, self.device, self.precision, self.options)
        plan = make_plan(model, self.spec, self.device, self.options, self._tuning)
        return model, Batcher(self.device, plan)

    def _compile_if_it_pays(self, model: LoadedModel) -> None:
        """Once the tracks so far have cost as much as compiling, as many may well follow."""
        if self._compiled or self.options.compile == "off":
            return
        after_s = self._tuning.of(self.spec, self.device).compile_after_s
        if self.options.compile == "on" or self._audio_s >= after_s:
            log.info("compiling %s for %s", self.spec.name, self.device)
            self._compiled = True
            model.compile()


_TELLING_S = 5.0
"""Seconds of audio that have to be separated for a speed to be worth remembering."""
