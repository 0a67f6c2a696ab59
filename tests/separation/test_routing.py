"""Which engine is taken, and that it says why."""

from __future__ import annotations

import pytest

from tasks.contracts import EngineName, Provider, Workload
from tasks.errors import SettingsError
from tasks.separation import Hardware, choose_engine, detect
from tasks.separation.hardware import CudaDevice


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
    route = choose_engine("auto", workload, hardware, cloud_configured=cloud)
    assert route.engine == route.order[0] == engine
    assert all(route.reasons)
    assert bool(route.warning) == (engine == "local_cpu")


def test_reasons_say_what_was_passed_over() -> None:
    route = choose_engine("auto", None, CPU, cloud_configured=False)
    assert "not this machine's GPU: there is no GPU here" in route.reasons
    assert any("engine.api_key" in reason for reason in route.reasons)


def test_offline_keeps_off_the_cloud() -> None:
    route = choose_engine("auto", "budget", CPU, cloud_configured=True, offline=True)
    assert route.engine == "local_cpu"
    with pytest.raises(SettingsError, match="offline"):
        choose_engine("cloud", None, CPU, cloud_configured=True, offline=True)


def test_auto_detect_off_leaves_the_gpu_alone_unless_it_is_asked_for() -> None:
    route = choose_engine("auto", None, GPU, cloud_configured=False, auto_detect=False)
    assert (route.engine, route.device) == ("local_cpu", "cpu")
    asked = choose_engine("local_gpu", None, GPU, cloud_configured=False, auto_detect=False)
    assert asked.device == "cuda:0"


@pytest.mark.parametrize("provider", ["local_gpu", "cloud"])
def test_what_cannot_be_had_is_refused(provider: Provider) -> None:
    with pytest.raises(SettingsError, match=f"engine.provider is {provider}, but"):
        choose_engine(provider, None, CPU, cloud_configured=False)


def test_an_unusable_nvidia_driver_is_named() -> None:
    blind = Hardware(idle_driver=True)
    with pytest.raises(SettingsError, match="torch has no CUDA although an NVIDIA driver"):
        choose_engine("local_gpu", None, blind, cloud_configured=False)
    assert any("install a CUDA build of torch" in line for line in blind.describe)


def test_the_emptiest_of_several_gpus_is_taken() -> None:
    two = Hardware(cuda=(gpu(0, free=3), gpu(1, free=20)))
    assert choose_engine("auto", None, two, cloud_configured=False).device == "cuda:1"


def test_apple_gpus_are_taken_on_request() -> None:
    mac = Hardware(mps=True)
    assert choose_engine("auto", None, mac, cloud_configured=False).engine == "local_cpu"
    assert choose_engine("local_gpu", None, mac, cloud_configured=False).device == "mps"


def test_this_machine_is_described() -> None:
    here = detect()
    assert here.cpu_cores >= 1
    assert here.torch_threads >= 1
    assert here.describe[-1].startswith(f"{here.cpu_cores} CPU cores")
    assert len(here.cuda) or "No GPU." in here.describe or here.accelerator or here.idle_driver
