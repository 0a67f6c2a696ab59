"""What is measured here, what it is remembered for, and what it decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contracts import LocalOptions, SeparationSettings
from tasks.errors import DeadlineMissed, SettingsError
from tasks.separation import LocalSeparator
from tasks.separation.deadline import default_deadline_s, refuse_hopeless
from tasks.separation.fallback import FallbackEngine
from tasks.separation.local import measuring
from tasks.separation.local.measuring import tune
from tasks.separation.models import ModelSpec
from tasks.separation.request import Callbacks, SeparationRequest
from tasks.separation.tuning import Measured, Tuning
from tasks.separation.wrappers import Pooled
from tests.separation.conftest import MixtureMaker

SETTINGS = SeparationSettings(model="tiny", format="wav", bit_depth="32f")


def test_nothing_is_known_at_first_and_the_best_speed_is_kept(tiny: ModelSpec) -> None:
    tuning = Tuning()
    assert tuning.of(tiny, "cpu") == Measured()
    tuning.note(tiny, "cpu", speed=2.0)
    tuning.note(tiny, "cpu", speed=1.0, batch=4)
    assert (tuning.of(tiny, "cpu").speed, tuning.of(tiny, "cpu").batch) == (2.0, 4)
    assert tuning.of(tiny, "xpu") == Measured()


def test_a_notebook_that_cannot_be_read_costs_no_run(tiny: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "tuning.sqlite3").write_text("no database")
    tuning = Tuning(tmp_path)
    tuning.note(tiny, "cpu", speed=2.0)
    assert tuning.of(tiny, "cpu") == Measured()


def test_a_separation_is_remembered_for_its_speed(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    LocalSeparator(tiny).separate(
        SeparationRequest(make_mixture(seconds=8.0), tmp_path / "s", SETTINGS)
    )
    assert Tuning().of(tiny, "cpu").speed > 0


def test_the_default_deadline_goes_by_the_measured_speed() -> None:
    assert default_deadline_s(600.0, "cpu") == 36_000
    assert default_deadline_s(600.0, "cpu", speed=2.0) == 3_000
    assert default_deadline_s(10.0, "cpu", speed=2.0) == 600
    assert default_deadline_s(600.0, "cuda:0", speed=2.0) is None


def test_a_deadline_that_cannot_be_kept_is_refused_before_anything_starts(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    Tuning().note(tiny, "cpu", speed=0.01)
    shares: list[float] = []
    with pytest.raises(DeadlineMissed, match="about 100 s for 1 s of audio") as caught:
        LocalSeparator(tiny).separate(
            SeparationRequest(
                make_mixture(),
                tmp_path / "s",
                SETTINGS,
                deadline_s=90.0,
                callbacks=Callbacks(on_progress=shares.append),
            )
        )
    assert caught.value.track == "Ensemble – song"
    assert shares == []
    refuse_hopeless(100.0, None, 1.0)
    refuse_hopeless(100.0, 100.0, 1.0)
    refuse_hopeless(100.0, 1.0, 0.0)  # nothing is known


def test_tuning_measures_every_precision_and_decides_none(tiny: ModelSpec) -> None:
    seen: list[str] = []
    before = LocalSeparator(tiny).separation_id(SETTINGS)
    found = tune(tiny, "cpu", on_trial=lambda trial: seen.append(trial.precision))
    assert seen == ["fp32", "bf16"]
    assert all(trial.speed > 0 and trial.batch == 1 for trial in found.trials)
    assert found.trials[0].agreement_db is None
    assert found.best == max(found.trials, key=lambda trial: trial.speed)
    assert found.kept.precision == "fp32"
    assert Tuning().of(tiny, "cpu").fastest == found.best.precision
    assert Tuning().of(tiny, "cpu").speed == pytest.approx(found.kept.speed)
    assert LocalSeparator(tiny).precision == "fp32"
    assert LocalSeparator(tiny).separation_id(SETTINGS) == before
    assert LocalSeparator(tiny, options=LocalOptions(precision="bf16")).precision == "bf16"


def test_a_precision_under_40_db_is_never_chosen(
    tiny: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "AGREES_DB", 300.0)
    assert [trial.precision for trial in tune(tiny, "cpu").trials] == ["fp32"]


def test_auto_is_a_rule_by_kind_of_device(tiny: ModelSpec) -> None:
    kinds = {"cpu": "fp32", "mps": "fp32", "xpu": "fp32", "cuda:0": "fp16", "cuda:1": "fp16"}
    assert {device: LocalSeparator(tiny, device=device).precision for device in kinds} == kinds
    assert Tuning().of(tiny, "cpu") == Measured()
    with pytest.raises(SettingsError, match="fp16 is for GPUs"):
        LocalSeparator(tiny, options=LocalOptions(precision="fp16"))


def test_a_catalog_begun_on_a_cpu_goes_on_on_a_gpu(tiny: ModelSpec) -> None:
    """And one begun where a measurement took bf16, by an older version, counts too."""
    on_cpu = LocalSeparator(tiny).separation_id(SETTINGS)
    on_gpu = LocalSeparator(tiny, device="cuda:0")
    assert on_gpu.separation_id(SETTINGS) != on_cpu
    chain = FallbackEngine([on_gpu])
    assert chain.accepted_ids(SETTINGS)[0] == on_gpu.separation_id(SETTINGS)
    asked = LocalSeparator(tiny, options=LocalOptions(precision="bf16"))
    assert {on_cpu, asked.separation_id(SETTINGS)} < set(chain.accepted_ids(SETTINGS))
    assert FallbackEngine([asked]).accepted_ids(SETTINGS) == (asked.separation_id(SETTINGS),)


def test_compiling_pays_once_it_has_saved_what_it_took() -> None:
    assert Measured(speed=10.0).compile_after_s == float("inf")
    # 10 s of audio a second, 1.25 times as fast: a fifth of 0.1 s is saved a second of audio.
    found = Measured(speed=10.0, compile_gain=1.25, compile_s=60.0)
    assert found.compile_after_s == pytest.approx(3000.0)


def test_what_a_separation_ran_on_is_in_its_report(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    options = LocalOptions(openvino="off")
    made = LocalSeparator(tiny, options=options).separate(
        SeparationRequest(make_mixture(), tmp_path, SETTINGS)
    )
    assert (made.backend, made.precision, made.batch) == ("torch", "fp32", 1)
    assert made.peak_vram_bytes is None
    assert made.peak_rss_bytes
    assert made.peak_rss_bytes > 50 * 1024**2


def test_tracks_go_to_the_device_with_the_fewest_in_flight(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    mixture = make_mixture()
    engines = [LocalSeparator(tiny, reasons=(name,)) for name in ("first", "second")]
    pool = Pooled(engines)
    second: list[tuple[str, ...]] = []

    def while_the_first_is_at_it(share: float) -> None:
        if not second:
            made = pool.separate(SeparationRequest(mixture, tmp_path / "b", SETTINGS))
            second.append(made.device_reasons)

    first = pool.separate(
        SeparationRequest(
            mixture,
            tmp_path / "a",
            SETTINGS,
            callbacks=Callbacks(on_progress=while_the_first_is_at_it),
        )
    )
    assert (first.device_reasons, second) == (("first",), [("second",)])
    assert pool.separate(SeparationRequest(mixture, tmp_path / "c", SETTINGS)).device_reasons == (
        "first",
    )
    assert pool.info.slots == 2
    assert pool.separation_id(SETTINGS) == first.separation_id
    pool.close()
