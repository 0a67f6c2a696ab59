"""What was measured of models on this machine's devices, kept between runs.

A row a model, device and precision: how fast it was, which batch worked, whether compiling pays.
"""

from __future__ import annotations

import logging
import platform
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.errors import StemwrightError
from tasks.separation.models.spec import ModelSpec
from tasks.separation.state import Database

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS measured (
    device TEXT NOT NULL, weights TEXT NOT NULL, facts TEXT NOT NULL,
    PRIMARY KEY (device, weights)
);
"""


class Measured(BaseModel):
    """What is known of one model on one device.

    `speed` is the best seen, in seconds of audio a second. `batch` counts segments; 0 is unknown.
    `fastest` is the precision that was fastest, a recommendation; empty before anything was tuned.
    Compiling took `compile_s`
    and makes a pass `compile_gain` times as fast; 1 where it doesn't pay, or wasn't tried.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    speed: float = 0.0
    batch: int = 0
    fastest: str = ""
    compile_gain: float = 1.0
    compile_s: float = 0.0

    @property
    def compile_after_s(self) -> float:
        """Seconds of audio after which compiling has paid; infinite where it never does."""
        if self.compile_gain <= 1 or not self.speed:
            return float("inf")
        saved = (1 - 1 / self.compile_gain) / self.speed
        return self.compile_s / saved


class Tuning:
    """The notebook of this machine. What can't be read or written costs knowledge, never a run."""

    def __init__(self, folder: Path | None = None) -> None:
        self._rows = Database("tuning", _SCHEMA, folder=folder)

    def of(self, spec: ModelSpec, device: str) -> Measured:
        """What is known of a model on a device; nothing, if nothing is."""
        try:
            with self._rows.read() as rows:
                found = rows.execute(
                    "SELECT facts FROM measured WHERE device = ? AND weights = ?",
                    (device_key(device), spec.weights_sha256),
                ).fetchone()
            return Measured.model_validate_json(found[0]) if found else Measured()
        except (StemwrightError, ValueError) as error:
            log.debug("what was measured here can't be read: %s", error)
            return Measured()

    def note(self, spec: ModelSpec, device: str, **facts: float | int | str) -> None:
        """Add to what is known; of `speed` the best is kept."""
        before = self.of(spec, device)
        if "speed" in facts:
            facts["speed"] = max(before.speed, float(facts["speed"]))
        after = before.model_copy(update=facts)
        if after == before:
            return
        try:
            with self._rows.write() as rows:
                rows.execute(
                    "INSERT OR REPLACE INTO measured VALUES (?, ?, ?)",
                    (device_key(device), spec.weights_sha256, after.model_dump_json()),
                )
        except StemwrightError as error:
            log.debug("what was measured can't be kept: %s", error)


def device_key(device: str) -> str:
    """A device by what it is, not by its number: "NVIDIA H100 80GB HBM3", or the processor's."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    return f"{device}: {_processor()}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
