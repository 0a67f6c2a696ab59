"""Which engine is taken, and that it says why."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.contracts import EngineName, Provider, Workload
from tasks.errors import SettingsError
from tasks.separation import Hardware, choose_engine, detect
from tasks.separation.hardware import CudaDevice
from tasks.separation.routing import Route, ServiceFacts, without


def gpu(index: int = 0, free: int = 20) -> CudaDevice:
    return CudaDevice(index=index, name="H200", total_bytes=24 << 30, free_bytes=free << 30)


GPU = Hardware(cuda=(gpu(),), cpu_cores=8, torch_threads=8)
CPU = Hardware(cpu_cores=2, torch_threads=2)


@pytest.mark.parametrize(
    ("workload", "hardware", "cloud", "engine"),
    [
        (None, GPU, True, "local_gpu"),
        (None, CPU, True, "cloud"),
        (None, CPU, False, "local_cpu"),
        ("realtime", GPU, True, "local_gpu"),
        ("realtime", CPU, True, "cloud"),
        ("batch", GPU, True, "cloud"),
        ("batch", GPU, False, "local_gpu"),
        ("development", CPU, True, "local_cpu"),
        ("development", GPU, True, "local_gpu"),
        ("budget", GPU, True, "cloud"),
        ("budget", CPU, False, "local_cpu"),
    ],
)
def test_the_decision_matrix(
    workload: Workload | None, hardware: Hardware, cloud: bool, engine: EngineName
) -> None:
    route = choose_engine("auto", workload, hardware, services=[B] if cloud else [])
    assert route.engine == route.order[0] == engine
    assert all(route.reasons)
    assert bool(route.warning) == (engine == "local_cpu")


A = ServiceFacts(name="lalal", usd_per_minute=0.06, note="30 of 60 min left this month")
B = ServiceFacts(name="box")
KEYLESS = ServiceFacts(name="fal", blocked="its api_key is not set")
SPENT = ServiceFacts(name="lalal", paused="its limit is reached until 2026-12-01 00:00 UTC")


def choose(provider: Provider, workload: Workload | None, hardware: Hardware, **more: Any) -> Route:
    return choose_engine(provider, workload, hardware, **{"services": [B], **more})


def parts(route: Route) -> dict[str, str]:
    return {one.name: one.part for one in route.candidates}


@pytest.mark.parametrize(
    ("workload", "hardware", "order"),
    [
        (None, GPU, ["local_gpu", "lalal", "box", "local_cpu"]),
        ("realtime", GPU, ["local_gpu", "lalal", "box", "local_cpu"]),
        ("realtime", CPU, ["lalal", "box", "local_cpu"]),
        ("batch", GPU, ["lalal", "box", "local_gpu", "local_cpu"]),
        ("batch", CPU, ["lalal", "box", "local_cpu"]),
        ("development", GPU, ["local_gpu", "local_cpu"]),
        ("development", CPU, ["local_cpu"]),
        ("budget", GPU, ["box", "lalal", "local_gpu", "local_cpu"]),
    ],
)
def test_the_order_of_engines_with_the_services_by_name(
    workload: Workload | None, hardware: Hardware, order: list[str]
) -> None:
    route = choose("auto", workload, hardware, services=[A, B])
    assert [one.name for one in route.usable] == order
    assert [one.part for one in route.usable] == ["first"] + ["next"] * (len(order) - 1)
    assert route.provider == (order[0] if order[0] in ("lalal", "box") else "local")


def test_what_is_blocked_or_paused_is_shown_with_its_reason() -> None:
    route = choose("auto", "batch", CPU, services=[SPENT, KEYLESS, B])
    assert parts(route) == {
        "lalal": "paused",
        "fal": "blocked",
        "box": "first",
        "local_gpu": "blocked",
        "local_cpu": "next",
    }
    assert [one.name for one in route.usable] == ["lalal", "box", "local_cpu"]
    assert route.reasons == (
        "The cloud (box)",
        "batch: a cloud queue scales without GPUs of one's own",
        f"not the cloud (lalal): {SPENT.paused}",
        "not the cloud (fal): its api_key is not set",
        "then this machine's CPU",
    )


def test_with_its_budget_spent_the_cloud_leaves_it_to_this_machine() -> None:
    route = choose("auto", "budget", CPU, services=[SPENT])
    assert (route.engine, route.device) == ("local_cpu", "cpu")
    assert route.order == ("local_cpu", "cloud")


def test_a_fixed_cloud_is_the_services_and_this_machine_only_on_request() -> None:
    route = choose("cloud", None, GPU, services=[A, B])
    assert parts(route) == {"lalal": "first", "box": "next"}
    assert "30 of 60 min left this month" in route.reasons
    route = choose("cloud", None, GPU, services=[A], fallback_to_local=True)
    assert parts(route) == {"lalal": "first", "local_gpu": "next", "local_cpu": "next"}
    with pytest.raises(SettingsError, match="its api_key is not set"):
        choose("cloud", None, GPU, services=[KEYLESS], fallback_to_local=True)


def test_a_fixed_gpu_hands_over_when_memory_runs_out_and_not_otherwise() -> None:
    route = choose("local_gpu", None, GPU, services=[A], cloud_after_oom=True)
    assert parts(route) == {"local_gpu": "first", "lalal": "after_oom", "local_cpu": "after_oom"}
    route = choose("local_gpu", None, GPU, services=[A])
    assert parts(route) == {"local_gpu": "first", "local_cpu": "after_oom"}


def test_what_turns_out_not_to_be_usable_makes_way_for_the_next() -> None:
    route = choose("auto", "batch", CPU, services=[A, B])
    found = without(route, {"lalal": "it makes no stem called other"})
    assert (found.provider, [one.name for one in found.usable]) == ("box", ["box", "local_cpu"])
    assert "not the cloud (lalal): it makes no stem called other" in found.reasons


def test_reasons_say_what_was_passed_over() -> None:
    route = choose_engine("auto", None, CPU)
    assert "not this machine's GPU: there is no GPU here" in route.reasons
    assert any("engine.api_key" in reason for reason in route.reasons)


def test_offline_keeps_off_the_cloud() -> None:
    route = choose_engine("auto", "budget", CPU, services=[B], offline=True)
    assert route.engine == "local_cpu"
    with pytest.raises(SettingsError, match="offline"):
        choose_engine("cloud", None, CPU, services=[B], offline=True)


def test_auto_detect_off_leaves_the_gpu_alone_unless_it_is_asked_for() -> None:
    route = choose_engine("auto", None, GPU, auto_detect=False)
    assert (route.engine, route.device) == ("local_cpu", "cpu")
    asked = choose_engine("local_gpu", None, GPU, auto_detect=False)
    assert asked.device == "cuda:0"


@pytest.mark.parametrize("provider", ["local_gpu", "cloud"])
def test_what_cannot_be_had_is_refused(provider: Provider) -> None:
    with pytest.raises(SettingsError, match=f"engine.provider is {provider}, but"):
        choose_engine(provider, None, CPU)


def test_an_unusable_nvidia_driver_is_named() -> None:
    blind = Hardware(idle_driver=True)
    with pytest.raises(SettingsError, match="torch has no CUDA although an NVIDIA driver"):
        choose_engine("local_gpu", None, blind)
    assert any("install a CUDA build of torch" in line for line in blind.describe)


def test_several_gpus_share_the_tracks_the_emptiest_first() -> None:
    two = Hardware(cuda=(gpu(0, free=3), gpu(1, free=20)))
    assert choose_engine("auto", None, two).device == "cuda:1,cuda:0"


def test_apple_gpus_are_taken_on_request() -> None:
    mac = Hardware(mps=True)
    assert choose_engine("auto", None, mac).engine == "local_cpu"
    assert choose_engine("local_gpu", None, mac).device == "mps"


def test_this_machine_is_described() -> None:
    here = detect()
    assert here.cpu_cores >= 1
    assert here.torch_threads >= 1
    assert here.describe[-1].startswith(f"{here.cpu_cores} CPU cores")
    assert len(here.cuda) or "No GPU." in here.describe or here.accelerator or here.idle_driver
