"""What this machine can separate with."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.contracts import Value

_DRIVER = Path("/proc/driver/nvidia/version")


class CudaDevice(Value):
    """A CUDA (or ROCm) device; memory in bytes."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    capability: str = ""


class Hardware(Value):
    """Devices that torch can use, and the processor.

    `cpu_cores` counts those that this process may run on. `idle_driver` is set where an NVIDIA
    driver is installed and this build of torch can't use it.
    """

    cuda: tuple[CudaDevice, ...] = ()
    mps: bool = False
    xpu: bool = False
    cpu_cores: int = 1
    torch_threads: int = 1
    torch_version: str = ""
    idle_driver: bool = False

    @property
    def accelerator(self) -> str:
        """Torch's name of the best accelerator (`cuda`, `mps`, `xpu`), or ""."""
        if self.cuda:
            return "cuda"
        return "mps" if self.mps else "xpu" if self.xpu else ""

    @property
    def describe(self) -> list[str]:
        """The machine in sentences, for `doctor` and logs."""
        gigabyte = 1024**3
        lines = [
            f"GPU {gpu.index}: {gpu.name}, {gpu.total_bytes / gigabyte:.0f} GiB, "
            f"{gpu.free_bytes / gigabyte:.0f} GiB free."
            for gpu in self.cuda
        ]
        if self.mps:
            lines.append("Apple GPU (MPS).")
        if self.xpu:
            lines.append("Intel GPU (XPU).")
        if self.idle_driver:
            lines.append(
                f"An NVIDIA driver is installed, but torch {self.torch_version} can't use it: "
                "install a CUDA build of torch to separate on the GPU."
            )
        if not lines:
            lines.append("No GPU.")
        lines.append(f"{self.cpu_cores} CPU cores, {self.torch_threads} threads in torch.")
        return lines


def detect() -> Hardware:
    """Look at this machine (imports torch; a device that doesn't answer counts as absent)."""
    import torch

    xpu = getattr(torch, "xpu", None)
    devices = _cuda_devices()
    return Hardware(
        cuda=devices,
        mps=torch.backends.mps.is_available(),
        xpu=bool(xpu and xpu.is_available()),
        cpu_cores=_cores(),
        torch_threads=torch.get_num_threads(),
        torch_version=str(torch.__version__),
        idle_driver=not devices and _DRIVER.exists(),
    )


def _cuda_devices() -> tuple[CudaDevice, ...]:
    import torch

    if not torch.cuda.is_available():
        return ()
    found = []
    for index in range(torch.cuda.device_count()):
        try:
            facts = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError:  # in a bad state, or another process has it for itself alone
            continue
        found.append(
            CudaDevice(
                index=index,
                name=facts.name,
                total_bytes=total,
                free_bytes=free,
                capability=f"{facts.major}.{facts.minor}",
            )
        )
    return tuple(found)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
