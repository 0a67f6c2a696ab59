"""What happens when memory runs out: smaller batches, then other engines, and what is remembered.

The limit is of ours: a device on which a pass of too many segments fails, as torch fails.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from tasks.contracts import LocalOptions, SeparationSettings, StemSet
from tasks.errors import DeadlineMissed, OutOfMemory
from tasks.separation import LocalSeparator
from tasks.separation.engine import EngineInfo
from tasks.separation.fallback import FallbackEngine
from tasks.separation.local.batches import BatchPlan
from tasks.separation.local.network import Network
from tasks.separation.models import ModelSpec
from tasks.separation.request import SeparationRequest
from tasks.separation.tuning import Tuning
from tests.separation.conftest import MixtureMaker

SETTINGS = SeparationSettings(model="tiny", format="wav", bit_depth="32f")


class Limit:
    """Room for so many segments; counts passes by their size."""

    def __init__(self, segments: int) -> None:
        self.segments = segments
        self.passes: list[int] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Limit:
        run = Network.__call__

        def limited(network: Network, waves: torch.Tensor) -> torch.Tensor:
            self.passes.append(len(waves))
            if len(waves) > self.segments:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return run(network, waves)

        monkeypatch.setattr(Network, "__call__", limited)
        return self


def separator(spec: ModelSpec, batch: int = 8) -> LocalSeparator:
    return LocalSeparator(spec, options=LocalOptions(batch=batch, openvino="off"))


def samples(made: StemSet) -> list[bytes]:
    return [path.read_bytes() for path in made.stems.values()]


def test_half_the_batch_then_an_empty_cache_then_one_at_a_time(
    tiny: ModelSpec,
    make_mixture: MixtureMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mixture = make_mixture(seconds=4.0)
    alone = separator(tiny, batch=1).separate(
        SeparationRequest(mixture, tmp_path / "alone", SETTINGS)
    )
    limit = Limit(1).install(monkeypatch)
    with caplog.at_level(logging.WARNING, logger="tasks"):
        made = separator(tiny).separate(SeparationRequest(mixture, tmp_path / "made", SETTINGS))
    assert limit.passes[:4] == [8, 4, 4, 1]
    assert set(limit.passes[3:]) == {1}
    told = [record.message for record in caplog.records if "ran out of memory" in record.message]
    assert [line.partition(": ")[2] for line in told] == [
        "half the batch, 4",
        "its cache emptied, again with 4",
        "one segment at a time",
    ]
    assert samples(made) == samples(alone)
    assert made.batch == 1


def test_the_next_run_starts_with_what_worked(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = Limit(4).install(monkeypatch)
    separator(tiny).separate(
        SeparationRequest(make_mixture(seconds=4.0), tmp_path / "made", SETTINGS)
    )
    assert limit.passes[:2] == [8, 4]
    assert Tuning().of(tiny, "cpu").batch == 4


def test_the_cache_is_emptied_once_and_the_ladder_starts_anew_after_a_success() -> None:
    emptied: list[int] = []
    worked: list[int] = []
    plan = BatchPlan(4, empty_cache=lambda: emptied.append(1), on_worked=worked.append)
    assert [plan.out_of_memory("gpu") for _ in range(4)] == [True, True, True, False]
    assert (plan.size, len(emptied)) == (1, 1)
    plan.worked()
    plan.worked()
    assert worked == [1]
    assert plan.out_of_memory("gpu")  # the cache may have filled again
    assert not plan.out_of_memory("gpu")


def test_with_no_step_left_the_track_s_error_says_so(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = Limit(0).install(monkeypatch)
    with pytest.raises(OutOfMemory, match="cpu ran out of memory") as caught:
        separator(tiny).separate(
            SeparationRequest(make_mixture(seconds=4.0), tmp_path / "made", SETTINGS)
        )
    assert caught.value.track == "Ensemble – song"
    assert limit.passes == [8, 4, 4, 1]
    assert not (tmp_path / "made").exists()


class Starved(LocalSeparator):
    """A GPU without room, as far as anybody can tell."""

    @property
    def info(self) -> EngineInfo:
        return super().info.model_copy(update={"name": "local_gpu", "kind": "local_gpu"})

    def separate(self, request: SeparationRequest) -> StemSet:
        raise OutOfMemory("cuda:0 ran out of memory while separating.")


def gpu_then_cpu(spec: ModelSpec) -> FallbackEngine:
    return FallbackEngine([Starved(spec)], after_oom=[LocalSeparator(spec)])


def test_after_the_gpu_s_last_step_the_cpu_takes_over(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    chain = gpu_then_cpu(tiny)
    made = chain.separate(SeparationRequest(make_mixture(), tmp_path / "made", SETTINGS))
    assert made.engine == "local_cpu"
    assert made.route == (
        "local_gpu (cuda:0 ran out of memory while separating)",
        "local_cpu",
    )


def test_the_cpu_takes_over_only_if_the_deadline_allows(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    Tuning().note(tiny, "cpu", speed=0.01)
    chain = gpu_then_cpu(tiny)
    with pytest.raises((DeadlineMissed, OutOfMemory)) as caught:
        chain.separate(
            SeparationRequest(make_mixture(), tmp_path / "made", SETTINGS, deadline_s=30.0)
        )
    assert "can't be kept: this machine takes about 100 s" in str(caught.value)
