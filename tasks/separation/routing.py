"""Which engine separates: the article's decision matrix, with its reasons in words."""

from __future__ import annotations

from tasks.contracts import EngineName, Provider, Value, Workload
from tasks.errors import SettingsError
from tasks.separation.hardware import Hardware

CPU_WARNING = (
    "Separating on the CPU is slow: about the track's own length with htdemucs on two cores, "
    "several times that on an older machine; each track has a deadline."
)

_PREFERENCES: dict[Workload | None, tuple[tuple[EngineName, ...], str]] = {
    None: (("local_gpu", "cloud", "local_cpu"), "auto takes a GPU, else the cloud, else the CPU"),
    "realtime": (
        ("local_gpu", "cloud", "local_cpu"),
        "realtime: a local GPU has no round trips and no queue",
    ),
    "batch": (
        ("cloud", "local_gpu", "local_cpu"),
        "batch: a cloud queue scales without GPUs of one's own",
    ),
    "development": (
        ("local_gpu", "local_cpu"),
        "development: this machine, with nothing to set up and nothing to pay",
    ),
    "budget": (
        ("cloud", "local_gpu", "local_cpu"),
        "budget: the cloud's free tier first, this machine beyond it",
    ),
}
_WORDS: dict[EngineName, str] = {
    "local_gpu": "this machine's GPU",
    "cloud": "the cloud",
    "local_cpu": "this machine's CPU",
}


class Route(Value):
    """The engine chosen, where it computes, why, and which engines come after it.

    `device` is torch's name (`cuda:0`, `cpu`) or, for the cloud, empty. `order` starts with
    `engine`; the rest are what may take over. `warning` is a sentence to log, or empty.
    """

    engine: EngineName
    provider: str
    device: str
    reasons: tuple[str, ...]
    order: tuple[EngineName, ...]
    warning: str = ""


def choose_engine(
    provider: Provider,
    workload: Workload | None,
    hardware: Hardware,
    *,
    cloud_configured: bool,
    auto_detect: bool = True,
    offline: bool = False,
    cloud_provider: str = "stemwright",
) -> Route:
    """Choose the engine.

    Args:
        provider: What the user fixed; `auto` leaves it to `workload`.
        workload: A row of the article's matrix, or None: GPU, else cloud, else CPU.
        hardware: From `detect`.
        cloud_configured: A key and an address of a service are set.
        auto_detect: Off: `auto` doesn't look for a GPU.
        offline: The cloud is out of bounds.
        cloud_provider: What the report calls the service.

    Raises:
        SettingsError: The fixed provider can't be had here.
    """
    blocked = _blocked(hardware, cloud_configured, auto_detect or provider != "auto", offline)
    if provider != "auto":
        if provider in blocked:
            raise SettingsError(
                f"engine.provider is {provider}, but {blocked[provider]}.",
                remedy="Set it to auto to use what there is.",
            )
        return _route(provider, (provider,), ("as engine.provider says",), hardware, cloud_provider)
    preferred, why = _PREFERENCES[workload]
    # A Mac's or Intel's GPU is taken on request only: demucs moves its transforms to the CPU there.
    if not hardware.cuda:
        blocked.setdefault("local_gpu", f"{hardware.accelerator.upper()} is used only on request")
    usable = tuple(engine for engine in preferred if engine not in blocked)
    passed = preferred[: preferred.index(usable[0])]
    reasons = (why, *(f"not {_WORDS[engine]}: {blocked[engine]}" for engine in passed))
    return _route(usable[0], usable, reasons, hardware, cloud_provider)


def _blocked(
    hardware: Hardware, cloud_configured: bool, look_for_gpu: bool, offline: bool
) -> dict[EngineName, str]:
    blocked: dict[EngineName, str] = {}
    if not look_for_gpu:
        blocked["local_gpu"] = "gpu.auto_detect is off"
    elif not hardware.accelerator:
        driver = "torch has no CUDA although an NVIDIA driver is installed"
        blocked["local_gpu"] = driver if hardware.idle_driver else "there is no GPU here"
    if offline:
        blocked["cloud"] = "offline was asked for"
    elif not cloud_configured:
        blocked["cloud"] = "engine.api_key and engine.base_url aren't both set"
    return blocked


def _route(
    engine: EngineName,
    order: tuple[EngineName, ...],
    reasons: tuple[str, ...],
    hardware: Hardware,
    cloud_provider: str,
) -> Route:
    devices = {"local_gpu": hardware.accelerator, "local_cpu": "cpu", "cloud": ""}
    device = devices[engine]
    if device == "cuda":
        # The emptiest one: other processes may be on the rest.
        emptiest = max(hardware.cuda, key=lambda gpu: (gpu.free_bytes, -gpu.index))
        device = f"cuda:{emptiest.index}"
    return Route(
        engine=engine,
        provider=cloud_provider if engine == "cloud" else "local",
        device=device,
        reasons=(f"{_WORDS[engine][0].upper()}{_WORDS[engine][1:]}", *reasons),
        order=order,
        warning=CPU_WARNING if engine == "local_cpu" else "",
    )
