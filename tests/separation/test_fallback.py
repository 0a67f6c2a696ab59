"""What one engine can't do the next one takes over, and the report says which made what."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tasks.contracts import STEMS, EngineName, Mixture, SeparationSettings, StemSet
from tasks.errors import (
    BudgetSpent,
    CorruptAudio,
    DeadlineMissed,
    DiskFull,
    Interrupted,
    KeyRejected,
    NetworkError,
    OutOfMemory,
    ProtocolError,
    RateLimited,
    ServiceError,
    SourceRefused,
    StemwrightError,
    SubmitUnclear,
)
from tasks.separation.breaker import Breaker
from tasks.separation.budget import Budget, Limit, LimitReached
from tasks.separation.device_lock import DeviceLock
from tasks.separation.engine import Engine, EngineInfo
from tasks.separation.fallback import FallbackEngine
from tasks.separation.local.separator import LocalSeparator
from tasks.separation.models import ModelSpec
from tasks.separation.request import Callbacks, SeparationRequest
from tasks.separation.wrappers import Budgeted, CircuitBroken, DeviceLocked
from tests.separation.conftest import MixtureMaker

SETTINGS = SeparationSettings(model="tiny")
Outcome = StemwrightError | set[str] | None


class StandIn(Engine):
    """A paid service or a GPU, which can't be had here: the tiny model does its work.

    `outcomes` are what comes of the first calls: an error, or the stems that it leaves out.
    """

    def __init__(self, name: str, kind: EngineName, spec: ModelSpec, *outcomes: Outcome) -> None:
        self.name = name
        self.kind = kind
        self.device = ""
        self.outcomes = list(outcomes)
        self.calls: list[SeparationRequest] = []
        self.cost_usd = 0.0
        self.price = 0.0
        self._worker = LocalSeparator(spec)

    @property
    def info(self) -> EngineInfo:
        update = {"name": self.name, "kind": self.kind, "device": self.device}
        return self._worker.info.model_copy(update=update)

    def separation_id(self, settings: SeparationSettings) -> str:
        return f"tiny-{self.name}"

    def price_usd(self, duration_s: float, settings: SeparationSettings) -> float:
        return self.price

    def separate(self, request: SeparationRequest) -> StemSet:
        self.calls.append(request)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, StemwrightError):
            raise outcome
        made = self._worker.separate(request)
        kept = {name: path for name, path in made.stems.items() if name not in (outcome or ())}
        update = {
            "stems": kept,
            "stem_origins": dict.fromkeys(kept, self.name),
            "separation_id": self.separation_id(request.settings),
            "engine": self.kind,
            "provider": self.name,
            "cost_usd": self.cost_usd,
        }
        return made.model_copy(update=update)

    def close(self) -> None:
        self._worker.close()


Make = Callable[..., StandIn]


@pytest.fixture
def service(tiny: ModelSpec) -> Make:
    return lambda name, *outcomes: StandIn(name, "cloud", tiny, *outcomes)


@pytest.fixture
def gpu(tiny: ModelSpec) -> Make:
    return lambda *outcomes: StandIn("local_gpu", "local_gpu", tiny, *outcomes)


@pytest.fixture
def cpu(tiny: ModelSpec) -> Engine:
    return LocalSeparator(tiny)


def breaker(name: str = "lalal") -> Breaker:
    return Breaker(name, threshold=1, cool_down_s=60.0)


def separate(
    engine: Engine, mixture: Mixture, *, stop: Callable[[], bool] = lambda: False, **named: Any
) -> StemSet:
    folder, callbacks = mixture.path.parent / "stems", Callbacks(stopping=stop)
    return engine.separate(
        SeparationRequest(mixture, folder, SETTINGS, callbacks=callbacks, **named)
    )


PASSED_ON = [
    NetworkError("no connection."),
    RateLimited("asked too often.", retry_after_s=3.0),
    ServiceError("it failed (503)."),
    ProtocolError("it answered HTML."),
    SubmitUnclear("the submit broke off."),
    SourceRefused("it takes no file as large as this."),
    KeyRejected("it rejected the key."),
    BudgetSpent("the account has no credit."),
    DeadlineMissed("not complete after 20 asks."),
]


@pytest.mark.parametrize("error", PASSED_ON, ids=lambda error: type(error).__name__)
def test_what_another_engine_could_do_it_does(
    error: StemwrightError,
    service: Make,
    cpu: Engine,
    make_mixture: MixtureMaker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engines = FallbackEngine([service("lalal", error), cpu])
    with caplog.at_level("INFO", logger="tasks"):
        made = separate(engines, make_mixture())
    assert (made.engine, made.provider) == ("local_cpu", "local")
    assert made.separation_id == cpu.separation_id(SETTINGS)
    assert made.route == (f"lalal ({error.cause.rstrip('.')})", "local_cpu")
    assert set(made.stems) == set(STEMS)
    assert f"Ensemble – song: lalal hands it on: {error.cause}" in caplog.messages


@pytest.mark.parametrize(
    "error",
    [CorruptAudio("damaged."), Interrupted("stop."), DiskFull("full.")],
    ids=lambda error: type(error).__name__,
)
def test_what_no_engine_could_do_goes_to_none(
    error: StemwrightError, service: Make, make_mixture: MixtureMaker
) -> None:
    second = service("fal")
    engines = FallbackEngine([service("lalal", error), second])
    with pytest.raises(type(error)):
        separate(engines, make_mixture())
    assert second.calls == []


def test_the_first_engine_does_it_all_when_it_can(
    service: Make, cpu: Engine, make_mixture: MixtureMaker
) -> None:
    engines = FallbackEngine([service("lalal"), cpu])
    made = separate(engines, make_mixture())
    assert (made.provider, made.route) == ("lalal", ("lalal",))
    assert made.separation_id == engines.separation_id(SETTINGS) == "tiny-lalal"
    assert engines.accepted_ids(SETTINGS)[:2] == (
        "tiny-lalal",
        cpu.separation_id(SETTINGS),
    )


def test_a_stem_that_is_missing_comes_from_the_next_with_the_same_gain(
    service: Make, tiny: ModelSpec, make_mixture: MixtureMaker
) -> None:
    second = service("fal")
    engines = FallbackEngine([service("lalal", {"bass"}), second])
    made = separate(engines, make_mixture(level=0.5))
    assert made.stem_origins == dict.fromkeys(STEMS, "lalal") | {"bass": "fal"}
    assert made.route == ("lalal (left out bass)", "fal")
    assert (made.provider, made.separation_id) == ("lalal", "tiny-lalal")
    assert second.calls[0].only == {"bass"}
    assert second.calls[0].gain == made.gain
    assert all(soundfile.info(path).frames == made.frames for path in made.stems.values())


def test_mixed_stems_are_named_after_the_engine_that_made_most(
    service: Make, cpu: Engine, make_mixture: MixtureMaker
) -> None:
    engines = FallbackEngine([service("lalal", {"bass", "drums", "other"}), cpu])
    made = separate(engines, make_mixture())
    assert (made.engine, made.provider) == ("local_cpu", "local")
    assert made.stem_origins == dict.fromkeys(STEMS, "local_cpu") | {"vocals": "lalal"}
    half = FallbackEngine([service("lalal", {"bass", "drums"}), cpu])
    assert separate(half, make_mixture()).provider == "lalal"


def test_stems_that_nobody_made_are_left_to_validation(
    service: Make, make_mixture: MixtureMaker
) -> None:
    fault = ServiceError("it failed.")
    engines = FallbackEngine([service("lalal", {"bass"}), service("fal", fault)])
    made = separate(engines, make_mixture())
    assert set(made.stems) == set(STEMS) - {"bass"}
    assert made.route == ("lalal (left out bass)", "fal (it failed)")


def test_costs_add_up(service: Make, make_mixture: MixtureMaker) -> None:
    first, second = service("lalal", {"bass"}), service("fal")
    first.cost_usd, second.cost_usd = 0.20, 0.05
    assert separate(FallbackEngine([first, second]), make_mixture()).cost_usd == 0.25


def test_a_failed_engine_s_known_cost_counts_too(service: Make, make_mixture: MixtureMaker) -> None:
    error = ServiceError("it failed.")
    error.cost_usd = 0.10
    second = service("fal")
    second.cost_usd = 0.05
    made = separate(FallbackEngine([service("lalal", error), second]), make_mixture())
    assert made.cost_usd == pytest.approx(0.15)


def test_a_price_that_was_set_wins(service: Make, make_mixture: MixtureMaker) -> None:
    engine = service("lalal")
    engine.cost_usd = 0.2
    priced = Budgeted(engine, usd_per_minute=18)  # of a track of one second
    assert separate(FallbackEngine([priced]), make_mixture()).cost_usd == 0.3


def test_where_a_service_does_not_say_its_price_counts(
    service: Make, make_mixture: MixtureMaker
) -> None:
    engine = service("lalal")
    engine.price = 0.3
    engines = FallbackEngine([Budgeted(engine)])
    assert separate(engines, make_mixture()).cost_usd == 0.3


# --- keys and credit --------------------------------------------------------------------------


def test_a_rejected_key_is_tried_once_and_warned_of_once(
    service: Make, cpu: Engine, make_mixture: MixtureMaker, caplog: pytest.LogCaptureFixture
) -> None:
    first = service("lalal", KeyRejected("it rejected the key."))
    engines = FallbackEngine([first, cpu])
    for _ in range(3):
        made = separate(engines, make_mixture())
    assert len(first.calls) == 1
    assert made.route == ("lalal (not asked: it rejected the key)", "local_cpu")
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("lalal isn't asked again in this run: it rejected the key. Set")
    assert engines.fatal_error() is None


def test_with_every_key_rejected_nothing_is_left_for_the_run(
    service: Make, make_mixture: MixtureMaker
) -> None:
    rejected = KeyRejected("it rejected the key.")
    spent = BudgetSpent("the account has no credit.")
    engines = FallbackEngine([service("lalal", rejected), service("fal", spent)])
    with pytest.raises(BudgetSpent, match=r"no engine could do it: lalal .*; fal"):
        separate(engines, make_mixture())
    lost = engines.fatal_error()
    assert isinstance(lost, KeyRejected)
    assert lost.track == ""
    with pytest.raises(StemwrightError, match="not asked") as again:
        separate(engines, make_mixture(name="other"))
    assert again.value.track == "Ensemble – other"


# --- breakers and budgets ---------------------------------------------------------------------


def test_a_service_that_fails_is_left_alone_for_later_tracks(
    service: Make, cpu: Engine, make_mixture: MixtureMaker
) -> None:
    first = service("lalal", ServiceError("503."))
    engines = FallbackEngine([CircuitBroken(first, breaker()), cpu])
    separate(engines, make_mixture())
    made = separate(engines, make_mixture())
    assert len(first.calls) == 1
    assert made.route == ("lalal (left alone after repeated faults)", "local_cpu")


def test_with_nobody_else_the_track_is_tried_again_when_the_service_may_be_asked(
    service: Make, make_mixture: MixtureMaker
) -> None:
    engines = FallbackEngine([CircuitBroken(service("lalal", ServiceError("503.")), breaker())])
    with pytest.raises(ServiceError):
        separate(engines, make_mixture())
    with pytest.raises(RateLimited) as left_alone:
        separate(engines, make_mixture())
    assert left_alone.value.retry_after_s == pytest.approx(60, abs=5)


@pytest.mark.parametrize("error", [CorruptAudio("bad."), Interrupted("stop."), KeyError("a bug")])
def test_what_is_not_the_service_s_fault_leaves_its_breaker_closed(
    error: Exception, service: Make, make_mixture: MixtureMaker
) -> None:
    engine = service("lalal")
    engine.separate = lambda *args, **named: _raise(error)  # type: ignore[method-assign]
    watched = breaker()
    with pytest.raises(type(error)):
        separate(FallbackEngine([CircuitBroken(engine, watched)]), make_mixture())
    assert watched.state == "closed"
    assert watched.admits()


def _raise(error: Exception) -> Any:
    raise error


def test_beyond_its_limit_the_next_engine_takes_over(
    service: Make, cpu: Engine, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    budget = Budget("lalal", Limit(minutes=1.5 / 60), folder=tmp_path)
    engines = FallbackEngine([Budgeted(service("lalal"), budget), cpu])
    mixture = make_mixture(seconds=1.0)
    assert separate(engines, mixture).provider == "lalal"
    over = separate(engines, mixture)
    assert over.provider == "local"
    assert over.route[0].startswith("lalal (its limit is reached: 0.0 of 0.025 min left this month")
    assert engines.fatal_error() is None


def test_a_limit_with_nobody_behind_it_ends_the_track(
    service: Make, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    budget = Budget("lalal", Limit(minutes=0.001), folder=tmp_path)
    engine = service("lalal")
    with pytest.raises(LimitReached, match="its limit is reached"):
        separate(FallbackEngine([Budgeted(engine, budget)]), make_mixture())
    assert engine.calls == []


def unsent(error: StemwrightError) -> StemwrightError:
    error.submitted = False
    return error


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        (unsent(KeyRejected("no.")), False),
        (unsent(NetworkError("no connection.")), False),
        (KeyRejected("no longer."), True),
        (SubmitUnclear("it broke off."), True),
        (NetworkError("reset."), True),
        (DeadlineMissed("too slow."), True),
        (None, True),
    ],
    ids=str,
)
def test_only_what_was_certainly_not_submitted_is_given_back(
    outcome: Outcome,
    counted: bool,
    service: Make,
    cpu: Engine,
    make_mixture: MixtureMaker,
    tmp_path: Path,
) -> None:
    budget = Budget("lalal", Limit(minutes=10), folder=tmp_path)
    engines = FallbackEngine([Budgeted(service("lalal", outcome), budget), cpu])
    separate(engines, make_mixture(seconds=1.0))
    assert budget.spent().minutes == pytest.approx(1 / 60 if counted else 0)


def test_what_the_service_charged_is_what_counts(
    service: Make, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    engine = service("lalal")
    engine.cost_usd = 0.07
    budget = Budget("lalal", Limit(usd=1), folder=tmp_path)
    engine.price = 0.5
    engines = FallbackEngine([Budgeted(engine, budget)])
    separate(engines, make_mixture())
    assert budget.spent().usd == pytest.approx(0.07)


# --- out of memory, time, devices -------------------------------------------------------------


def oom() -> OutOfMemory:
    return OutOfMemory("cuda:0 ran out of memory while separating.")


def test_a_gpu_out_of_memory_hands_over_to_the_cloud(
    gpu: Make, service: Make, cpu: Engine, make_mixture: MixtureMaker
) -> None:
    engines = FallbackEngine([gpu(oom())], after_oom=[service("lalal"), cpu])
    made = separate(engines, make_mixture())
    assert made.route == ("local_gpu (cuda:0 ran out of memory while separating)", "lalal")


def test_without_leave_to_use_the_cloud_the_cpu_takes_over(
    gpu: Make, service: Make, cpu: Engine, make_mixture: MixtureMaker
) -> None:
    unused = service("lalal")
    engines = FallbackEngine([gpu(oom()), unused, cpu], cloud_after_oom=False)
    assert separate(engines, make_mixture()).engine == "local_cpu"
    assert unused.calls == []


def test_what_is_there_for_a_full_gpu_alone_takes_over_from_nothing_else(
    gpu: Make, service: Make, make_mixture: MixtureMaker
) -> None:
    unused = service("lalal")
    broken = gpu(ProtocolError("torch failed on cuda:0."))
    engines = FallbackEngine([broken], after_oom=[unused])
    with pytest.raises(ProtocolError):
        separate(engines, make_mixture())
    assert unused.calls == []


def test_a_service_with_another_engine_behind_it_gets_half_of_the_time(
    service: Make, cpu: Engine, make_mixture: MixtureMaker
) -> None:
    first, last = service("lalal", NetworkError("no.")), service("fal")
    separate(FallbackEngine([first, last]), make_mixture(), deadline_s=100.0)
    assert first.calls[0].deadline_s == 50.0
    assert last.calls[0].deadline_s == pytest.approx(100.0, abs=5)


def test_with_no_time_left_nobody_else_is_asked(service: Make, make_mixture: MixtureMaker) -> None:
    second = service("fal")
    engines = FallbackEngine([service("lalal", NetworkError("no.")), second])
    with pytest.raises(NetworkError):
        separate(engines, make_mixture(), deadline_s=0.0)
    assert second.calls == []


def test_this_machine_s_engines_wait_for_their_device_and_services_do_not(
    service: Make, cpu: Engine, tiny: ModelSpec, make_mixture: MixtureMaker
) -> None:
    name = "test-fallback-device"
    worker = StandIn("local_cpu", "local_cpu", tiny)
    worker.device = name
    locked = DeviceLocked(worker)
    engines = FallbackEngine([service("lalal", None, NetworkError("no.")), locked])
    first, second = make_mixture(name="one"), make_mixture(name="two")
    done = threading.Event()

    def two() -> None:
        separate(engines, second)
        done.set()

    with DeviceLock(name).held(lambda: False):
        assert separate(engines, first).provider == "lalal"
        thread = threading.Thread(target=two)
        thread.start()
        assert not done.wait(0.5)
    thread.join()
    assert done.is_set()


def test_a_wait_for_the_device_can_be_stopped(tiny: ModelSpec, make_mixture: MixtureMaker) -> None:
    name = "test-fallback-stop"
    worker = StandIn("local_cpu", "local_cpu", tiny)
    worker.device = name
    locked = DeviceLocked(worker)
    with DeviceLock(name).held(lambda: False), pytest.raises(Interrupted):
        separate(FallbackEngine([locked]), make_mixture(), stop=lambda: True)


def test_stems_made_again_are_only_those(service: Make, make_mixture: MixtureMaker) -> None:
    first, second = service("lalal", ServiceError("no.")), service("fal")
    engines = FallbackEngine([first, second])
    made = separate(engines, make_mixture(), only=frozenset({"drums"}), gain=0.5)
    assert set(made.stems) == {"drums"}
    assert [call.only for call in (*first.calls, *second.calls)] == [{"drums"}] * 2
    assert made.gain == 0.5


def test_what_a_service_charged_for_nothing_is_spent(
    service: Make, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    error = ProtocolError("the job names no stems.")
    error.cost_usd = 0.07
    engine = service("lalal", error, None)
    engine.cost_usd = 0.05
    budget = Budget("lalal", Limit(usd=1), folder=tmp_path)
    engine.price = 0.5
    engines = FallbackEngine([Budgeted(engine, budget)])
    mixture = make_mixture()
    with pytest.raises(ProtocolError):
        separate(engines, mixture)
    separate(engines, mixture)
    assert budget.spent().usd == pytest.approx(0.12)
