"""Which engines separate, in which order: the article's decision matrix, with reasons in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

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
_NOT_SET = "engine.api_key and engine.base_url aren't both set"


class ServiceFacts(Value):
    """What routing knows of a service.

    `blocked` says why a run can't use it at all, `paused` why not now (an open breaker, a spent
    budget), `note` what is left of its budget; each a sentence without its stop, or empty.
    """

    name: str
    usd_per_minute: float = 0.0
    blocked: str = ""
    paused: str = ""
    note: str = ""


Part = Literal["first", "next", "after_oom", "paused", "blocked"]


class Candidate(Value):
    """An engine that was considered: the part it has in the run, and why.

    `name` is a service's own, else the engine's. The parts: `first` takes the tracks, `next` takes
    over, `after_oom` takes over from a GPU out of memory only, `paused` may come back, `blocked`
    is out.
    """

    name: str
    engine: EngineName
    device: str = ""
    part: Part
    why: str = ""

    @property
    def words(self) -> str:
        """The engine as a sentence calls it."""
        if self.engine != "cloud" or self.name == "cloud":
            return _WORDS[self.engine]
        return f"{_WORDS['cloud']} ({self.name})"


class Route(Value):
    """The engine chosen, where it computes, why, and which engines come after it.

    `device` is torch's name (`cuda:0`, `cpu`) or, for the cloud, empty. `order` starts with
    `engine`; the rest are what may take over. `candidates` are all that were considered, in the
    order of preference. `warning` is a sentence to log, or empty.
    """

    engine: EngineName
    provider: str
    device: str
    reasons: tuple[str, ...]
    order: tuple[EngineName, ...]
    candidates: tuple[Candidate, ...] = ()
    warning: str = ""

    @property
    def usable(self) -> tuple[Candidate, ...]:
        """The engines that a run may use, in order."""
        return tuple(found for found in self.candidates if found.part != "blocked")

    @property
    def alone(self) -> Route:
        """The same without anything that would take over from the first engine."""
        first = tuple(found for found in self.candidates if found.part == "first")
        return self.model_copy(update={"candidates": first, "order": (self.engine,)})

    def reasons_of(self, candidate: Candidate) -> tuple[str, ...]:
        """Why an engine made the stems, for the report."""
        return self.reasons if candidate.part == "first" else (_capital(candidate), "took over")


def choose_engine(
    provider: Provider,
    workload: Workload | None,
    hardware: Hardware,
    *,
    services: Sequence[ServiceFacts] = (),
    auto_detect: bool = True,
    offline: bool = False,
    fallback_to_local: bool = False,
    cloud_after_oom: bool = False,
) -> Route:
    """Choose the engines and their order.

    Args:
        provider: What the user fixed; `auto` leaves it to `workload`.
        workload: A row of the article's matrix, or None: GPU, else cloud, else CPU.
        hardware: From `detect`.
        services: In the order in which they are asked.
        auto_detect: Off: `auto` doesn't look for a GPU.
        offline: The cloud is out of bounds.
        fallback_to_local: With `provider` cloud: this machine takes over when no service can.
        cloud_after_oom: With `provider` local_gpu: a service takes over when memory runs out.

    Raises:
        SettingsError: The fixed provider can't be had here.
    """
    services = services or [ServiceFacts(name="stemwright", blocked=_NOT_SET)]
    look = _Look(hardware, services, auto_detect or provider != "auto", offline)
    if provider == "auto":
        order, why = _PREFERENCES[workload]
        found = look.at(order, of_choice=True, cheapest_first=workload == "budget")
        return _route(found, why)
    found = look.at((provider,))
    if all(candidate.part == "blocked" for candidate in found):
        raise SettingsError(
            f"engine.provider is {provider}, but {found[0].why}.",
            remedy="Set it to auto to use what there is.",
        )
    if provider == "cloud" and fallback_to_local:
        found += look.at(("local_gpu", "local_cpu"), of_choice=True)
    if provider == "local_gpu":
        after: tuple[EngineName, ...] = (
            ("cloud", "local_cpu") if cloud_after_oom else ("local_cpu",)
        )
        found += look.at(after, part="after_oom")
    return _route(found, "as engine.provider says")


def without(route: Route, blocked: Mapping[str, str]) -> Route:
    """The route with these candidates blocked, by name, for the reasons given.

    At least one must be left.
    """
    found = []
    for one in route.candidates:
        if one.name in blocked:
            one = one.model_copy(update={"part": "blocked", "why": blocked[one.name]})
        elif one.part == "first":
            one = one.model_copy(update={"part": "next"})
        found.append(one)
    return _route(found, route.reasons[1])


class _Look:
    """Looks at each kind of engine: what there is of it, and what stands in its way."""

    def __init__(
        self,
        hardware: Hardware,
        services: Sequence[ServiceFacts],
        look_for_gpu: bool,
        offline: bool,
    ) -> None:
        self._hardware = hardware
        self._services = services
        self._look_for_gpu = look_for_gpu
        self._offline = offline

    def at(
        self,
        order: Sequence[EngineName],
        *,
        of_choice: bool = False,
        cheapest_first: bool = False,
        part: Part = "next",
    ) -> list[Candidate]:
        found: list[Candidate] = []
        for engine in order:
            if engine == "cloud":
                price = (lambda s: s.usd_per_minute) if cheapest_first else (lambda s: 0.0)
                found += [self._service(one, part) for one in sorted(self._services, key=price)]
            elif engine == "local_gpu":
                found.append(self._gpu(of_choice, part))
            else:
                found.append(Candidate(name=engine, engine=engine, device="cpu", part=part))
        return found

    def _service(self, facts: ServiceFacts, part: Part) -> Candidate:
        why = "offline was asked for" if self._offline else facts.blocked
        if why:
            return Candidate(name=facts.name, engine="cloud", part="blocked", why=why)
        if facts.paused:
            return Candidate(name=facts.name, engine="cloud", part="paused", why=facts.paused)
        return Candidate(name=facts.name, engine="cloud", part=part, why=facts.note)

    def _gpu(self, of_choice: bool, part: Part) -> Candidate:
        hardware = self._hardware
        why, device = "", hardware.accelerator
        if not self._look_for_gpu:
            why = "gpu.auto_detect is off"
        elif not device:
            driver = "torch has no CUDA although an NVIDIA driver is installed"
            why = driver if hardware.idle_driver else "there is no GPU here"
        elif of_choice and not hardware.cuda:
            # A Mac's or Intel's is for who asks: demucs moves its transforms to the CPU there.
            why = f"{device.upper()} is used only on request"
        elif hardware.cuda:
            # All of them; the emptiest first, since other processes may be on the rest.
            emptiest = sorted(hardware.cuda, key=lambda gpu: (-gpu.free_bytes, gpu.index))
            device = ",".join(f"cuda:{gpu.index}" for gpu in emptiest)
        part = "blocked" if why else part
        return Candidate(name="local_gpu", engine="local_gpu", device=device, part=part, why=why)


def _route(found: list[Candidate], why: str) -> Route:
    usable = [candidate for candidate in found if candidate.part == "next"]
    usable += [candidate for candidate in found if candidate.part == "paused"]
    first = usable[0]
    candidates = tuple(
        one.model_copy(update={"part": "first"}) if one is first else one for one in found
    )
    at = found.index(first)
    passed = [one for one in found[:at] if one.part in ("blocked", "paused")]
    later = [one for one in found[at + 1 :] if one.part != "blocked"]
    taking_over = f"then {', '.join(one.words for one in later)}" if later else ""
    reasons = (
        _capital(first),
        why,
        *(f"not {one.words}: {one.why}" for one in passed),
        *filter(None, [first.why, taking_over]),
    )
    order = [first, *(one for one in found if one is not first and one.part != "blocked")]
    return Route(
        engine=first.engine,
        provider=first.name if first.engine == "cloud" else "local",
        device=first.device,
        reasons=reasons,
        order=tuple(dict.fromkeys(one.engine for one in order)),
        candidates=candidates,
        warning=CPU_WARNING if first.engine == "local_cpu" else "",
    )


def _capital(candidate: Candidate) -> str:
    return f"{candidate.words[0].upper()}{candidate.words[1:]}"
