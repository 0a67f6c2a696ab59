"""What every way to run a network promises: demucs' own estimates, at the stated agreement."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from demucs.hdemucs import HDemucs
from safetensors.torch import save_file

from tasks.contracts import STEMS, LocalOptions
from tasks.separation.local import openvino_core
from tasks.separation.local.batches import Batcher, BatchPlan
from tasks.separation.local.fused import is_plain
from tasks.separation.local.network import Network
from tasks.separation.local.parity import agreement_db
from tests.tiny_model import SHAPE, tiny_network

ALWAYS = LocalOptions(openvino="on")


def segments(network: Any, count: int = 1, seed: int = 3) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    frames = int(network.segment * network.samplerate)
    return torch.randn(count, 2, frames, generator=draw)


def run(network: Any, waves: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = network(waves)
        return out


def other_shape(**changes: object) -> Any:
    from fractions import Fraction

    from demucs.htdemucs import HTDemucs

    torch.manual_seed(5)
    shape = {**SHAPE, **changes}
    return HTDemucs(sources=list(STEMS), segment=Fraction(1, 2), **shape).eval()


@pytest.mark.parametrize(
    "make",
    [
        tiny_network,
        lambda: tiny_network(1, (*STEMS, "guitar", "piano")),
        lambda: other_shape(bottom_channels=32, t_layers=3, dconv_mode=3),
        lambda: other_shape(t_norm_out=False, t_layer_scale=False, freq_emb=0),
        lambda: other_shape(depth=3, norm_starts=1, t_cross_first=True, dconv_depth=1),
    ],
    ids=["tiny", "six stems", "released", "bare", "norms"],
)
def test_the_lean_core_is_the_network(make: Callable[[], Any]) -> None:
    network = make()
    assert is_plain(network)
    waves = segments(network, 3)
    assert agreement_db(run(Network(network, None, "cpu"), waves), run(network, waves)) > 95


@pytest.mark.parametrize(
    "change",
    [{"t_layers": 0}, {"t_emb": "cape"}, {"t_norm_first": False}, {"use_train_segment": False}],
)
def test_what_the_lean_core_does_not_know_runs_as_demucs_wrote_it(change: dict[str, Any]) -> None:
    network = other_shape(**change)
    assert not is_plain(network)
    waves = segments(network)
    assert torch.equal(run(Network(network, None, "cpu"), waves), run(network, waves))


def test_a_hybrid_demucs_runs_too() -> None:
    network = HDemucs(list(STEMS), channels=8, segment=2).eval()
    waves = segments(network)
    ready = Network(network, None, "cpu")
    assert ready.valid_length(1000) == 1000
    assert torch.equal(run(ready, waves), run(network, waves))


def test_reduced_precision_stays_above_40_db_and_says_its_class() -> None:
    network = tiny_network()
    ready = Network(network, None, "cpu", "bf16")
    waves = segments(network)
    found = agreement_db(run(ready, waves), run(network, waves))
    assert ready.precision == "bf16"
    assert 40 < found < 90  # it is another arithmetic


# --- OpenVINO ----------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_file(tiny_network().state_dict(), path)
    return path


@pytest.fixture
def conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept = tmp_path / "conversions"
    monkeypatch.setattr(openvino_core, "cache_folder", lambda: kept)
    return kept


def test_openvino_agrees_and_is_converted_once(
    weights: Path, conversions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny_network()
    waves = segments(network, 2)
    first = Network(network, weights, "cpu", options=ALWAYS)
    made = run(first, waves)
    assert first.backend == "openvino"
    assert agreement_db(made, run(network, waves)) > 80
    (kept,) = conversions.iterdir()
    assert json.loads((kept / "checked.json").read_text())["agreement_db"] > 60
    monkeypatch.setattr(openvino_core, "_convert", lambda *_: pytest.fail("it is converted"))
    again = Network(network, weights, "cpu", options=ALWAYS)
    assert torch.equal(run(again, waves), made)


def test_a_conversion_that_differs_is_not_used_nor_tried_again(
    weights: Path, conversions: Path
) -> None:
    """Here it is one of other weights, under this one's name."""
    Network(tiny_network(9), weights, "cpu", options=ALWAYS)
    network = tiny_network()
    waves = segments(network)
    wrong = Network(network, weights, "cpu", options=ALWAYS)
    plain = run(Network(network, None, "cpu"), waves)
    assert torch.equal(run(wrong, waves), plain)
    assert wrong.backend == "torch"
    again = Network(network, weights, "cpu", options=ALWAYS)
    assert again.backend == "torch"
    assert torch.equal(run(again, waves), plain)


@pytest.mark.parametrize(("torch_s", "used"), [(2.0, "openvino"), (0.9, "torch")])
def test_auto_takes_openvino_only_where_it_is_faster(
    weights: Path, conversions: Path, torch_s: float, used: str
) -> None:
    network = tiny_network()
    Network(network, weights, "cpu")
    (kept,) = conversions.iterdir()
    check = openvino_core.Check(agreement_db=100.0, openvino_s=1.0, torch_s=torch_s)
    (kept / "checked.json").write_text(check.model_dump_json())
    assert Network(network, weights, "cpu").backend == used
    assert Network(network, weights, "cpu", options=LocalOptions(openvino="off")).backend == "torch"


def test_a_broken_conversion_costs_no_track(
    weights: Path, conversions: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = tiny_network()
    Network(network, weights, "cpu")
    (kept,) = conversions.iterdir()
    (kept / "core.xml").write_text("not xml")
    again = Network(network, weights, "cpu")
    assert again.backend == "torch"
    assert "OpenVINO can't run tiny.safetensors, torch does" in caplog.text


# --- batches -----------------------------------------------------------------------------------


class Noted:
    """A network that notes the passes; gives NaN in reduced precision when asked to."""

    def __init__(self, precision: str = "fp32", broken: bool = False) -> None:
        self.precision = precision
        self.broken = broken
        self.passes: list[int] = []
        self.exact = 0

    def __call__(self, waves: torch.Tensor) -> torch.Tensor:
        self.passes.append(len(waves))
        return waves[:, None] * (float("nan") if self.broken else 2)

    def exactly(self, waves: torch.Tensor) -> torch.Tensor:
        self.exact += 1
        return waves[:, None] * 2


def test_segments_of_all_tracks_in_flight_share_a_pass() -> None:
    network, batcher = Noted(), Batcher("cpu", BatchPlan(4))
    mine, others = torch.ones(2, 8), [torch.full((2, 8), float(n)) for n in range(2, 5)]
    waiting = [batcher.submit(network, wave) for wave in others]
    ticket = batcher.submit(network, mine)
    assert torch.equal(batcher.result(ticket), 2 * mine[None])
    assert network.passes == [4]
    for one, wave in zip(waiting, others, strict=True):
        assert torch.equal(batcher.result(one), 2 * wave[None])
    assert network.passes == [4]


def test_segments_of_other_lengths_or_networks_do_not_share_it() -> None:
    network, other, batcher = Noted(), Noted(), Batcher("cpu", BatchPlan(4))
    first = batcher.submit(network, torch.ones(2, 8))
    batcher.submit(network, torch.ones(2, 9))
    batcher.submit(other, torch.ones(2, 8))
    batcher.result(first)
    assert (network.passes, other.passes) == ([1], [])


def test_a_track_that_gave_up_leaves_nothing_in_the_queue() -> None:
    network, batcher = Noted(), Batcher("cpu", BatchPlan(4))
    batcher.cancel([batcher.submit(network, torch.ones(2, 8))])
    batcher.result(batcher.submit(network, torch.ones(2, 8)))
    assert network.passes == [1]


def test_numbers_that_are_not_finite_are_made_again_in_float32() -> None:
    network, batcher = Noted("fp16", broken=True), Batcher("cpu", BatchPlan(2))
    ticket = batcher.submit(network, torch.ones(2, 8))
    assert torch.equal(batcher.result(ticket), torch.full((1, 2, 8), 2.0))
    assert network.exact == 1


def test_many_threads_get_their_own_segments() -> None:
    network, batcher = Noted(), Batcher("cpu", BatchPlan(3))
    found: dict[int, bool] = {}

    def track(number: int) -> None:
        wave = torch.full((1, 4), float(number))
        found[number] = all(
            torch.equal(batcher.result(batcher.submit(network, wave)), 2 * wave[None])
            for _ in range(50)
        )

    threads = [threading.Thread(target=track, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == dict.fromkeys(range(5), True)
