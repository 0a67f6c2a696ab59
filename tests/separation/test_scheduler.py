"""What the chunk scheduler promises: demucs' own samples, however a track is cut and batched."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from demucs.apply import BagOfModels, apply_model
from numpy.typing import NDArray

from tasks.contracts import Mixture, SeparationSettings
from tasks.separation.local import segments
from tasks.separation.local.batches import Batcher, BatchPlan
from tasks.separation.local.inference import separate_stream
from tasks.separation.local.network import Network
from tasks.separation.mixture_reader import MixtureReader
from tests.separation.conftest import MixtureMaker
from tests.tiny_model import tiny_network

ALL = (0, 1, 2, 3)


def bag(*networks: torch.nn.Module, rows: list[list[float]] | None = None) -> BagOfModels:
    return BagOfModels(list(networks), rows).eval()


class Ready:
    """A bag that is in memory already."""

    def __init__(self, model: BagOfModels) -> None:
        self.weights = model.weights
        self.networks = [Network(network, None, "cpu") for network in model.models]

    def network(self, index: int) -> Network:
        return self.networks[index]


def ours(
    model: BagOfModels,
    mixture: Mixture,
    *,
    stems: tuple[int, ...] = ALL,
    batch: int = 1,
    before: Callable[[float], None] = lambda done: None,
    **settings: float,
) -> NDArray[np.float32]:
    blocks: list[NDArray[np.float32]] = []
    with MixtureReader(mixture) as reader:
        separate_stream(
            Ready(model),
            reader,
            Batcher("cpu", BatchPlan(batch)),
            SeparationSettings(**settings),
            stems,
            blocks.append,
            before,
        )
    return np.concatenate(blocks, axis=-1)


def demucs(model: BagOfModels, mixture: Mixture, **options: float) -> NDArray[np.float32]:
    with MixtureReader(mixture) as reader:
        wave = reader.normal(0, reader.frames)[None]
        out = apply_model(model, wave, **{"shifts": 0, **options})[0]  # type: ignore[arg-type]
        return np.asarray(out * reader.deviation + reader.mean)


def agreement_db(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    assert one.shape == other.shape
    noise = float(np.sum((one.astype(float) - other) ** 2)) or 1e-30
    return 10 * float(np.log10(np.sum(other.astype(float) ** 2) / noise))


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5, 0.7])
@pytest.mark.parametrize("seconds", [0.11, 0.5, 1.87])
def test_the_same_samples_as_demucs(
    make_mixture: MixtureMaker, overlap: float, seconds: float
) -> None:
    mixture, model = make_mixture(seconds=seconds, centred=True), bag(tiny_network(0))
    theirs = demucs(model, mixture, overlap=overlap)
    assert agreement_db(ours(model, mixture, overlap=overlap), theirs) > 100


@pytest.mark.parametrize("batch", [2, 3, 64])
def test_a_batch_changes_nothing_that_is_heard(make_mixture: MixtureMaker, batch: int) -> None:
    mixture, model = make_mixture(seconds=1.9), bag(tiny_network(0))
    assert agreement_db(ours(model, mixture, batch=batch), ours(model, mixture)) > 100


def test_shifts_are_demucs_own_for_the_same_draws(
    make_mixture: MixtureMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture, model = make_mixture(seconds=1.3, centred=True), bag(tiny_network(0))
    draws = random.Random(7)
    monkeypatch.setattr("demucs.apply.random.randint", draws.randint)
    theirs = demucs(model, mixture, shifts=3)
    assert agreement_db(ours(model, mixture, shifts=3, seed=7), theirs) > 100


def test_networks_of_a_bag_may_have_segments_of_different_lengths(
    make_mixture: MixtureMaker,
) -> None:
    long, short = tiny_network(0), tiny_network(1)
    short.segment = long.segment / 2
    model = bag(long, short, rows=[[1.0, 0.5, 0.0, 2.0], [1.0, 1.5, 1.0, 0.0]])
    mixture = make_mixture(seconds=1.4, centred=True)
    assert agreement_db(ours(model, mixture), demucs(model, mixture)) > 100


def test_only_the_networks_of_the_wanted_stems_run(
    make_mixture: MixtureMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes one stem of `htdemucs_ft` cost a quarter of all four."""
    networks = [tiny_network(seed) for seed in range(4)]
    model = bag(*networks, rows=np.eye(4).tolist())
    mixture = make_mixture(seconds=1.2)
    whole = ours(model, mixture)
    asked: list[int] = []
    find = Ready.network

    def noted(self: Ready, index: int) -> Network:
        asked.append(index)
        return find(self, index)

    monkeypatch.setattr(Ready, "network", noted)
    vocals = ours(model, mixture, stems=(3,))
    assert asked == [3]
    assert np.array_equal(vocals[0], whole[3])


def test_stems_come_block_by_block_as_segments_are_done(make_mixture: MixtureMaker) -> None:
    """What is held is a segment, not the track: blocks leave while later ones are unread."""
    mixture, model = make_mixture(seconds=2.4), bag(tiny_network(0))
    events: list[str] = []
    with MixtureReader(mixture) as reader:
        separate_stream(
            Ready(model), reader, Batcher("cpu", BatchPlan(1)), SeparationSettings(), ALL,
            lambda block: events.append(f"block of {block.shape[-1]}"),
            lambda done: events.append("forward"),
        )  # fmt: skip
    cut = segments.cuts(model.models[0], mixture.frames, 0.25, 0, 0)[0]
    assert events[:4] == ["forward", f"block of {cut.stride}"] * 2
    assert events.count("forward") == len(cut)


def test_the_reader_measures_as_demucs_does(make_mixture: MixtureMaker) -> None:
    mixture = make_mixture(seconds=0.8)
    with MixtureReader(mixture) as reader:
        wave = reader.normal(0, reader.frames) * reader.deviation + reader.mean
        mono = wave.mean(0)
        assert reader.mean == pytest.approx(float(mono.mean()), abs=1e-7)
        assert reader.deviation == pytest.approx(float(mono.std()) + 1e-8, rel=1e-5)
        edge = reader.normal(-5, 10)
        assert not edge[:, :5].any()
        assert torch.equal(edge[:, 5:], reader.normal(0, 5))
        assert not reader.normal(reader.frames, 4).any()


@pytest.mark.parametrize("offset", [0.0, 0.2, -0.5])
def test_stems_share_a_constant_offset_of_the_mixture(
    make_mixture: MixtureMaker, offset: float
) -> None:
    """What the network makes of the samples doesn't change, and the offset is there once."""
    samples = np.random.default_rng(7).normal(0, 0.1, (2, 30_000)).astype(np.float32)
    samples -= samples.mean()
    model = bag(tiny_network(0))
    plain = ours(model, make_mixture(samples, name="plain"))
    moved = ours(model, make_mixture(samples + np.float32(offset), name="moved"))
    assert moved.sum(axis=0).mean() - plain.sum(axis=0).mean() == pytest.approx(offset, abs=1e-5)
    assert agreement_db(moved - np.float32(offset / 4), plain) > 80


def test_one_stem_alone_has_its_share_of_an_offset(make_mixture: MixtureMaker) -> None:
    samples = np.full((2, 30_000), 0.2, np.float32)
    samples[:, ::2] = 0.3
    mixture, model = make_mixture(samples), bag(tiny_network(0))
    assert agreement_db(ours(model, mixture, stems=(3,)), ours(model, mixture)[3:]) > 100
