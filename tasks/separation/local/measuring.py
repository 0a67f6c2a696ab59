"""Finding out which batch and compilation are fastest for a model on a device.

The precision is measured too, to recommend one: it is part of what stems are called, so what a run
takes follows from the settings and the kind of device alone.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contracts import LocalOptions, PrecisionClass, Value
from tasks.errors import OutOfMemory
from tasks.separation.tuning import Tuning

if TYPE_CHECKING:
    import torch

    from tasks.separation.local.network import Network
    from tasks.separation.models.spec import ModelSpec

log = logging.getLogger(__name__)

AGREES_DB = 40.0
"""What a reduced precision has to agree with float32 to be recommended."""
_GAINS = 1.05
_BATCHES = (1, 2, 4, 8, 16, 32)
_REPEATS = 3
_PIECE = Path(__file__).parents[2] / "sources" / "bundled" / "costa_lenta" / "mixture.flac"


class Trial(Value):
    """One way to run a model. `speed` is in seconds of audio a second; 0 when it ran out of memory.

    `agreement_db` is the worst stem's with float32, on one segment; null for float32 itself.
    """

    precision: PrecisionClass
    batch: int
    compiled: bool = False
    speed: float
    agreement_db: float | None = None
    compile_s: float = 0.0


class Tuned(Value):
    """What was tried: the fastest way of all, and the one that runs take, by their precision."""

    device: str
    trials: tuple[Trial, ...]
    kept: Trial
    best: Trial


def tune(
    spec: ModelSpec,
    device: str,
    *,
    options: LocalOptions | None = None,
    tuning: Tuning | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Tuned:
    """Measure a model's first network on a device, and keep what was found.

    Raises:
        WeightsRefused, SettingsError: As loading the model.
        OutOfMemory: Not even one segment fits.
    """
    tuning = tuning or Tuning()
    options = options or LocalOptions()
    trials: list[Trial] = []
    for trial in _trials(spec, device, options):
        trials.append(trial)
        on_trial(trial)
    eager = [one for one in trials if one.speed and not one.compiled]
    if not eager:
        raise OutOfMemory(f"{device} has no room for one segment.", stage="separate")
    best = max(eager, key=lambda one: one.speed)
    kept = max(
        (one for one in eager if one.precision == _ruled(device, options)),
        key=lambda one: one.speed,
        default=best,
    )
    same = [one for one in trials if one.compiled and one.precision == kept.precision]
    gain = max((one.speed / kept.speed for one in same), default=1.0)
    pays = gain >= _GAINS
    tuning.note(
        spec,
        device,
        fastest=best.precision,
        batch=kept.batch,
        speed=kept.speed,
        compile_gain=gain if pays else 1.0,
        compile_s=max((one.compile_s for one in same), default=0.0) if pays else 0.0,
    )
    return Tuned(device=device, trials=tuple(trials), kept=kept, best=best)


def _ruled(device: str, options: LocalOptions) -> PrecisionClass:
    from tasks.separation.local.separator import auto_precision

    return auto_precision(device) if options.precision == "auto" else options.precision


def _trials(spec: ModelSpec, device: str, options: LocalOptions) -> Iterator[Trial]:
    """Every precision at growing batches, as long as they gain; then the best one compiled."""
    from tasks.separation.local.loading import LoadedModel
    from tasks.separation.local.parity import worst_stem_db

    reference: torch.Tensor | None = None
    best: Trial | None = None
    for precision in _precisions(device):
        network = LoadedModel(spec, device, precision, options).network(0)
        wave = _music(network, device)
        estimate = _pass(network, wave, 1)
        found = math.inf if reference is None else worst_stem_db(estimate, reference)
        reference = estimate if reference is None else reference
        if found < AGREES_DB or network.precision != precision:
            log.info("%s agrees to %.0f dB only, and isn't used", precision, found)
            continue
        agreement = None if math.isinf(found) else round(found, 1)
        slower = 0
        for batch in (1,) if device == "cpu" else _BATCHES:
            trial = Trial(
                precision=precision,
                batch=batch,
                speed=_speed(network, wave, batch, device),
                agreement_db=agreement,
            )
            yield trial
            if not trial.speed:
                break
            if best is None or trial.speed > best.speed * 1.02:
                best, slower = trial, 0
            else:
                slower += 1
            if slower == 2:
                break
    if best and device.startswith("cuda") and options.compile != "off":
        yield _compiled(spec, device, options, best)


def _compiled(spec: ModelSpec, device: str, options: LocalOptions, best: Trial) -> Trial:
    from tasks.separation.local.loading import LoadedModel

    network = LoadedModel(spec, device, best.precision, options).network(0)
    wave = _music(network, device)
    network.compile()
    started = time.monotonic()
    speed = 0.0
    try:
        _pass(network, wave, best.batch)
        took_s = time.monotonic() - started
        speed = _speed(network, wave, best.batch, device)
    except Exception as error:
        # Compilers fail in ways of their own; then there is nothing to gain.
        took_s = time.monotonic() - started
        log.info("it can't be compiled for %s: %s", device, str(error)[:200])
    return best.model_copy(update={"compiled": True, "speed": speed, "compile_s": took_s})


def _precisions(device: str) -> tuple[PrecisionClass, ...]:
    if device == "cpu":
        return ("fp32", "bf16")
    if device.startswith("cuda"):
        import torch

        major, _ = torch.cuda.get_device_capability(device)
        return ("fp32", "fp16", "bf16") if major >= 8 else ("fp32", "fp16")
    return ("fp32",)


def _speed(network: Network, wave: torch.Tensor, batch: int, device: str) -> float:
    """Seconds of audio a second, of the best of a few passes; 0 when they don't fit."""
    from tasks.separation.torch_faults import torch_told

    took: list[float] = []
    try:
        with torch_told(device):
            for _ in range(_REPEATS):
                started = time.monotonic()
                _pass(network, wave, batch)
                took.append(time.monotonic() - started)
    except OutOfMemory:
        return 0.0
    # Of neighbouring segments a quarter is heard twice.
    return 0.75 * batch * float(network.segment) / min(took)


def _pass(network: Network, wave: torch.Tensor, batch: int) -> torch.Tensor:
    import torch

    with torch.inference_mode():
        # To the host: a GPU is done when its answer has come.
        return network(wave.expand(batch, -1, -1).contiguous())[:1].cpu()


def _music(network: Network, device: str) -> torch.Tensor:
    """A segment of the bundled music, normalised, (1, channels, frames)."""
    import soundfile
    import torch

    frames = network.valid_length(int(network.samplerate * network.segment))
    samples, _ = soundfile.read(_PIECE, frames=frames, dtype="float32", always_2d=True)
    wave = torch.from_numpy(samples.T)
    wave = torch.nn.functional.pad(wave, (0, frames - wave.shape[1]))
    mono = wave.mean(0)
    return ((wave - mono.mean()) / (mono.std() + 1e-8))[None].to(device)
