"""The one engine of a run: what there is of it, in which order, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contracts import STEMS, SeparationSettings
from tasks.errors import SettingsError, UnknownModel
from tasks.separation.cloud.providers.base import CloudProvider
from tasks.separation.factory import EngineOptions, make_engine, plan_route
from tasks.separation.request import SeparationRequest
from tasks.separation.services import CloudApi
from tests.separation.conftest import MixtureMaker

TINY = SeparationSettings(model="tiny")
BOX = CloudApi(name="box", base_url="http://127.0.0.1:9/v1")
ATTIC = CloudApi(name="attic", base_url="http://127.0.0.1:9/v2", usd_per_minute=0.6)


def options(models_dir: Path, **more: object) -> EngineOptions:
    return EngineOptions(
        settings=TINY, models_dir=models_dir, offline=False, auto_detect=False
    ).model_copy(update=more)


def test_this_machine_alone(models_dir: Path, make_mixture: MixtureMaker, tmp_path: Path) -> None:
    engine, route = make_engine(options(models_dir))
    assert (engine.info.name, engine.info.device, engine.info.sources) == (
        "local_cpu",
        "cpu",
        STEMS,
    )
    made = engine.separate(SeparationRequest(make_mixture(), tmp_path / "s", TINY))
    assert made.device_reasons == route.reasons
    assert made.separation_id == engine.separation_id(TINY) == engine.accepted_ids(TINY)[0]
    engine.close()


def test_services_come_in_their_order_and_this_machine_last(models_dir: Path) -> None:
    engine, route = make_engine(options(models_dir, services=(BOX, ATTIC)))
    assert [one.info.name for one in engine.engines] == ["box", "attic", "local_cpu"]
    assert engine.info.is_service
    ids = engine.accepted_ids(TINY)
    assert list(ids[:3]) == [one.separation_id(TINY) for one in engine.engines]
    assert engine.engines[1].price_usd(90.0, TINY) == pytest.approx(0.9)
    assert route.reasons_of(route.usable[2])[1] == "took over"


def test_what_cannot_be_made_makes_way_and_the_rest_is_made_once(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = CloudApi.make_provider

    def counting(service: CloudApi) -> CloudProvider:
        made.append(service.label)
        return make(service)

    monkeypatch.setattr(CloudApi, "make_provider", counting)
    odd = BOX.model_copy(update={"service_options": {"splitter": "orion"}})
    engine, route = make_engine(options(models_dir, services=(odd, ATTIC)))
    assert [one.info.name for one in engine.engines] == ["attic", "local_cpu"]
    assert route.provider == "attic"
    assert any("not the cloud (box): stemwright has no option" in why for why in route.reasons)
    assert made == ["box", "attic"]


def test_a_cpu_behind_a_gpu_is_for_its_memory_only(models_dir: Path) -> None:
    chosen = options(models_dir)
    route = plan_route(chosen)
    (cpu,) = route.usable
    gpu = cpu.model_copy(update={"name": "local_gpu", "engine": "local_gpu"})
    late = cpu.model_copy(update={"part": "after_oom"})
    engine, _ = make_engine(chosen, route.model_copy(update={"candidates": (gpu, late)}))
    assert engine.after_oom == {"local_cpu"}


def test_a_stem_that_nobody_makes_is_refused_at_once(models_dir: Path) -> None:
    asked = TINY.model_copy(update={"stems": ("kazoo",)})
    with pytest.raises(SettingsError, match="tiny has no stem 'kazoo'"):
        make_engine(options(models_dir, settings=asked))


def test_without_a_network_a_missing_model_is_told_of_before_the_hardware_is_looked_at(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.separation.hardware.detect", lambda: pytest.fail("too early"))
    nothing = SeparationSettings(model="no such model")
    with pytest.raises(UnknownModel):
        make_engine(options(models_dir, settings=nothing, offline=True, auto_detect=True))


def test_one_engine_alone_has_nobody_to_take_over(models_dir: Path) -> None:
    route = plan_route(options(models_dir, services=(BOX, ATTIC))).alone
    assert [one.name for one in route.usable] == ["box"]
    assert route.order == ("cloud",)
