"""HTDemucs' core on a CPU through OpenVINO: converted once a network, and checked before it counts.

A conversion is kept in the cache, named by the weights, OpenVINO's version and the precision. On
its first segment it is held against torch: one that agrees too little, or in float32 isn't faster,
is not used again.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.contracts import PrecisionClass, Value
from tasks.separation.local.parity import worst_stem_db
from tasks.separation.models.digests import cache_home, sha256_of

log = logging.getLogger(__name__)

AGREES_DB: dict[PrecisionClass, float] = {"fp32": 60.0, "bf16": 40.0, "fp16": 40.0}
_HINTS: dict[PrecisionClass, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_GAINS = 1.05
# Raised whenever `FusedHTDemucs` changes what it computes.
_FORM = 1


def is_installed() -> bool:
    return find_spec("openvino") is not None


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/stemwright/openvino`."""
    return cache_home() / "openvino"


Estimates = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Check(Value):
    """What the first segment showed: the worst stem's agreement, and each library's seconds."""

    agreement_db: float
    openvino_s: float
    torch_s: float

    def is_sound(self, precision: PrecisionClass) -> bool:
        return self.agreement_db >= AGREES_DB[precision]

    @property
    def gains(self) -> bool:
        return self.openvino_s * _GAINS < self.torch_s


class OpenVinoCore:
    """With the face of `FusedHTDemucs`: spectra and waves in, spectra and waves out.

    Args:
        folder: A conversion: `core.xml`, `core.bin` and, once checked, `checked.json`.
        precision: What OpenVINO computes in.
        reference: Makes the torch core, for the check.
        estimates: Stems of what a core gives, (segments, stems, channels, frames).
        whatever_it_gains: Use it also where torch is faster.
    """

    def __init__(
        self,
        folder: Path,
        precision: PrecisionClass,
        reference: Callable[[], nn.Module],
        estimates: Estimates,
        *,
        whatever_it_gains: bool = False,
    ) -> None:
        self._folder = folder
        self._precision: PrecisionClass = precision
        self._always = whatever_it_gains
        self._estimates = estimates
        # Kept only as long as it may be needed: it holds the network's weights.
        self._reference = None if _checked(folder) else reference
        # The torch core, once it is known that the conversion isn't used.
        self._exact: nn.Module | None = None
        core = _library().Core()
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        self._model = core.compile_model(folder / "core.xml", "CPU", settings)
        self._request = self._model.create_infer_request()

    @classmethod
    def ready(
        cls,
        weights: Path,
        precision: PrecisionClass,
        reference: Callable[[], nn.Module],
        estimates: Estimates,
        *,
        whatever_it_gains: bool = False,
    ) -> OpenVinoCore | None:
        """The network's conversion, from the cache or made now; None where it isn't to be used."""
        try:
            folder = cache_folder() / _key(weights, precision)
            check = _checked(folder)
            if check and not (
                check.is_sound(precision)
                and (check.gains or whatever_it_gains or precision != "fp32")
            ):
                return None
            if not (folder / "core.xml").is_file():
                _convert(reference(), folder)
            return cls(folder, precision, reference, estimates, whatever_it_gains=whatever_it_gains)
        except Exception as error:
            # OpenVINO raises plain RuntimeErrors; torch does the same work without it.
            log.warning("OpenVINO can't run %s, torch does: %s", weights.name, _first_line(error))
            return None

    @property
    def is_used(self) -> bool:
        """Whether it is OpenVINO that computes, as far as is known."""
        return self._exact is None

    def __call__(
        self, spectra: torch.Tensor, waves: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._exact is not None:
            out: tuple[torch.Tensor, torch.Tensor] = self._exact(spectra, waves)
            return out
        parts = [self._infer(spectra[i : i + 1], waves[i : i + 1]) for i in range(len(waves))]
        spectral, temporal = (torch.cat(part) for part in zip(*parts, strict=True))
        if self._reference is not None:
            return self._check(self._reference(), spectra, waves, (spectral, temporal))
        return spectral, temporal

    def _infer(
        self, spectra: torch.Tensor, waves: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # The conversion is of one segment: more at once gain nothing on a CPU.
        self._request.infer([spectra.contiguous().numpy(), waves.contiguous().numpy()])
        first, second = (self._request.get_output_tensor(i).data for i in range(2))
        return torch.from_numpy(first.copy()), torch.from_numpy(second.copy())

    def _check(
        self,
        exact: nn.Module,
        spectra: torch.Tensor,
        waves: torch.Tensor,
        found: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hold what came out against torch, remember how it went, and go on with the better one."""
        true: tuple[torch.Tensor, torch.Tensor] = exact(spectra, waves)
        check = Check(
            agreement_db=worst_stem_db(self._estimates(*found), self._estimates(*true)),
            openvino_s=_seconds(lambda: self._infer(spectra[:1], waves[:1])),
            torch_s=_seconds(lambda: exact(spectra[:1], waves[:1])),
        )
        _write(self._folder / "checked.json", check.model_dump_json())
        self._reference = None
        log.info(
            "OpenVINO agrees with torch to %.0f dB and takes %.2f s a segment, torch %.2f s",
            check.agreement_db, check.openvino_s, check.torch_s,
        )  # fmt: skip
        sound = check.is_sound(self._precision)
        if sound and (check.gains or self._always or self._precision != "fp32"):
            return found
        log.info("torch is used, as OpenVINO %s", "isn't faster" if sound else "differs too much")
        self._exact = exact
        return true


def _seconds(work: Callable[[], object]) -> float:
    """The best of two: whatever ran first also warmed up."""
    took = []
    for _ in range(2):
        started = time.monotonic()
        work()
        took.append(time.monotonic() - started)
    return min(took)


def _key(weights: Path, precision: PrecisionClass) -> str:
    try:
        installed = version("openvino")
    except PackageNotFoundError:  # built from source
        installed = "local"
    return f"{sha256_of(weights)[:16]}-{_FORM}-{installed}-{precision}"


def _library() -> Any:
    """OpenVINO, without its telemetry: it would report each conversion to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _checked(folder: Path) -> Check | None:
    try:
        return Check.model_validate_json((folder / "checked.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _convert(core: nn.Module, folder: Path) -> None:
    """Trace the core for one segment and keep it; whoever comes second keeps the first one's."""
    openvino = _library()
    log.info("converting the network for OpenVINO, once")
    spectra, waves = example(core)
    trace: Any = torch.jit.trace
    with warnings.catch_warnings():
        # That shapes become constants is what is wanted.
        warnings.simplefilter("ignore")
        traced = trace(core, (spectra, waves), check_trace=False)
        shapes = [list(spectra.shape), list(waves.shape)]
        model = openvino.convert_model(traced, example_input=(spectra, waves), input=shapes)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
    try:
        openvino.save_model(model, made / "core.xml", compress_to_fp16=False)
        made.replace(folder)
    except OSError:
        if not (folder / "core.xml").is_file():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def example(core: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise in the shape of one segment's spectra and waves."""
    draw = torch.Generator().manual_seed(0)
    bins, steps, channels, frames = core.shape
    return (
        torch.randn(1, 2 * channels, bins, steps, generator=draw),
        torch.randn(1, channels, frames, generator=draw),
    )


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
