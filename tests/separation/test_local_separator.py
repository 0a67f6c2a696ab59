"""What local separation promises: demucs' own result, the same bytes each time, and an end."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from tasks.contracts import STEMS, LocalOptions, SeparationSettings, StemSet
from tasks.errors import (
    CorruptAudio,
    DeadlineMissed,
    Interrupted,
    OutOfMemory,
    ProtocolError,
    SettingsError,
    SourceMissing,
)
from tasks.separation import LocalSeparator, default_deadline_s
from tasks.separation.local import loading as local_loading
from tasks.separation.local.network import Network
from tasks.separation.models import ModelSpec, find_model
from tasks.separation.request import Callbacks, SeparationRequest
from tasks.separation.wrappers import Pooled
from tests.separation.conftest import MixtureMaker
from tests.tiny_model import make_tiny_model, tiny_network

FLOAT = SeparationSettings(model="tiny", format="wav", bit_depth="32f")


def read(path: Path) -> NDArray[np.float64]:
    return np.asarray(soundfile.read(path, always_2d=True)[0].T)


def agreement_db(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    noise = float(np.sum((ours - theirs) ** 2)) or 1e-30
    return 10 * float(np.log10(np.sum(theirs**2) / noise))


def demucs_api(model: torch.nn.Module, wave: torch.Tensor) -> dict[str, torch.Tensor]:
    """The stems of `demucs.api.Separator`, given a model rather than a name to look up."""
    from demucs.api import Separator

    separator = Separator.__new__(Separator)
    separator._model = model  # what its `_load_model` sets
    separator._samplerate, separator._audio_channels = model.samplerate, model.audio_channels
    separator.update_parameter(
        device="cpu", shifts=0, overlap=0.25, split=True, segment=None, jobs=0,
        progress=False, callback=None, callback_arg=None,
    )  # fmt: skip
    return separator.separate_tensor(wave)[1]


def test_agrees_with_demucs_itself(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    mixture = make_mixture(seconds=1.3, centred=True)
    theirs = demucs_api(tiny_network(0), torch.from_numpy(read(mixture.path)).float())
    ours = LocalSeparator(tiny).separate(SeparationRequest(mixture, tmp_path / "stems", FLOAT))
    assert tuple(ours.stems) == STEMS
    for name, path in ours.stems.items():
        assert agreement_db(read(path), theirs[name].double().numpy()) > 80


@pytest.mark.parametrize(
    "settings",
    [
        SeparationSettings(model="tiny"),
        SeparationSettings(model="tiny", shifts=2, seed=5, format="wav", bit_depth="16"),
        FLOAT,
    ],
)
def test_same_input_same_bytes(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path, settings: SeparationSettings
) -> None:
    mixture = make_mixture(seconds=0.9)
    runs: list[list[bytes]] = []
    for run in ("one", "two"):
        random.seed(run)  # nobody else's random numbers may matter
        torch.manual_seed(len(runs))
        found = LocalSeparator(tiny).separate(SeparationRequest(mixture, tmp_path / run, settings))
        runs.append([path.read_bytes() for path in found.stems.values()])
    assert runs[0] == runs[1]


def test_shifts_draw_from_the_seed_alone(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    mixture = make_mixture(seconds=0.6)
    stems = [
        LocalSeparator(tiny).separate(
            SeparationRequest(
                mixture, tmp_path / str(seed), FLOAT.model_copy(update={"shifts": 1, "seed": seed})
            )
        )
        for seed in (1, 2)
    ]
    one, two = (read(found.stems["vocals"]) for found in stems)
    assert one.shape == two.shape == (2, mixture.frames)
    assert not np.array_equal(one, two)


def test_bag_weighs_its_members_as_demucs_does(make_mixture: MixtureMaker, tmp_path: Path) -> None:
    from demucs.apply import BagOfModels

    rows = [[1.0, 1.0, 0.0, 0.0], [0.0, 2.0, 1.0, 1.0]]
    make_tiny_model(tmp_path / "models", "duo", members=2, weights=rows)
    spec = find_model("duo", models_dir=tmp_path / "models", offline=True)
    mixture = make_mixture(seconds=0.8, centred=True)
    theirs = demucs_api(
        BagOfModels([tiny_network(0), tiny_network(1)], rows),
        torch.from_numpy(read(mixture.path)).float(),
    )
    ours = LocalSeparator(spec).separate(SeparationRequest(mixture, tmp_path / "stems", FLOAT))
    for name, path in ours.stems.items():
        assert agreement_db(read(path), theirs[name].double().numpy()) > 80


def test_six_stems(make_mixture: MixtureMaker, tmp_path: Path) -> None:
    six = (*STEMS, "guitar", "piano")
    make_tiny_model(tmp_path / "models", "six", sources=six)
    spec = find_model("six", models_dir=tmp_path / "models", offline=True)
    found = LocalSeparator(spec).separate(
        SeparationRequest(
            make_mixture(seconds=0.3), tmp_path / "stems", SeparationSettings(model="six")
        )
    )
    assert found.expected == tuple(found.stems) == six


def test_stems_are_as_long_as_the_mixture_and_one_gain_keeps_them_from_clipping(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    mixture = make_mixture(seconds=0.7, level=3.0)
    loud = LocalSeparator(tiny).separate(SeparationRequest(mixture, tmp_path / "f", FLOAT))
    exact = {name: read(path) for name, path in loud.stems.items()}
    assert loud.gain == 1.0
    assert max(np.abs(samples).max() for samples in exact.values()) > 1
    found = LocalSeparator(tiny).separate(
        SeparationRequest(mixture, tmp_path / "i", SeparationSettings(model="tiny"))
    )
    assert 0 < found.gain < 1
    for name, path in found.stems.items():
        info = soundfile.info(path)
        assert (info.frames, info.samplerate, info.channels) == (mixture.frames, 44_100, 2)
        assert np.abs(read(path)).max() < 1 - 2**-23
        assert np.abs(read(path) - found.gain * exact[name]).max() < 2**-23


def test_only_the_kept_stems_are_written_in_the_models_order(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    settings = SeparationSettings(model="tiny", stems=("vocals", "bass"))
    found = LocalSeparator(tiny).separate(
        SeparationRequest(make_mixture(seconds=0.3), tmp_path / "s", settings)
    )
    assert found.expected == ("bass", "vocals")
    assert not found.all_stems
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["bass.flac", "vocals.flac"]


def test_unknown_stem_is_refused_with_those_there_are(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    settings = SeparationSettings(model="tiny", stems=("vocals", "kazoo"))
    with pytest.raises(SettingsError, match="'kazoo'; it has drums, bass, other, vocals"):
        LocalSeparator(tiny).separate(SeparationRequest(make_mixture(), tmp_path, settings))


def test_a_stem_made_again_is_the_one_that_was_lost(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    mixture = make_mixture(seconds=0.6, level=3.0)
    settings = SeparationSettings(model="tiny")
    separator = LocalSeparator(tiny)
    first = separator.separate(SeparationRequest(mixture, tmp_path / "s", settings))
    lost = first.stems["bass"].read_bytes()
    first.stems["bass"].unlink()
    again = separator.separate(
        SeparationRequest(
            mixture, tmp_path / "s", settings, only=frozenset({"bass"}), gain=first.gain
        )
    )
    assert again.expected == STEMS
    assert list(again.stems) == ["bass"]
    assert again.gain == first.gain
    assert again.stems["bass"].read_bytes() == lost


def test_silence_gives_silent_stems_without_a_forward_pass(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_loading, "load_network", lambda *_: pytest.fail("no model is needed"))
    mixture = make_mixture(np.zeros((2, 44_100), np.float32))
    found = LocalSeparator(tiny).separate(
        SeparationRequest(mixture, tmp_path / "s", SeparationSettings(model="tiny"))
    )
    assert all(read(path).shape == (2, 44_100) for path in found.stems.values())
    assert not any(read(path).any() for path in found.stems.values())


def test_deadline_ends_between_segments_and_leaves_nothing(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    shares: list[float] = []
    with pytest.raises(DeadlineMissed, match="ran out with 0% of the separation done") as caught:
        LocalSeparator(tiny).separate(
            SeparationRequest(
                make_mixture(),
                tmp_path / "s",
                FLOAT,
                deadline_s=0.0,
                callbacks=Callbacks(on_progress=shares.append),
            )
        )
    assert (caught.value.track, caught.value.stage) == ("Ensemble – song", "separate")
    assert shares == []
    assert not (tmp_path / "s").exists()


def test_stop_is_asked_between_segments(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    shares: list[float] = []
    with pytest.raises(Interrupted):
        LocalSeparator(tiny).separate(
            SeparationRequest(
                make_mixture(seconds=1.5),
                tmp_path / "s",
                FLOAT,
                callbacks=Callbacks(on_progress=shares.append, stopping=lambda: len(shares) == 2),
            )
        )
    assert len(shares) == 2
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("shifts", [0, 2])
def test_progress_grows_to_one(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path, shifts: int
) -> None:
    shares: list[float] = []
    settings = FLOAT.model_copy(update={"shifts": shifts})
    LocalSeparator(tiny).separate(
        SeparationRequest(
            make_mixture(seconds=0.9),
            tmp_path,
            settings,
            callbacks=Callbacks(on_progress=shares.append),
        )
    )
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(set(shares))
    # The last pass is announced when one pass is left.
    assert shares[-2] == pytest.approx(1 - 1 / (len(shares) - 1))


def test_threads_share_one_model(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []
    load = local_loading.load_network

    def counted(spec: ModelSpec, index: int) -> torch.nn.Module:
        loads.append(index)
        return load(spec, index)

    monkeypatch.setattr(local_loading, "load_network", counted)
    mixture = make_mixture(seconds=0.3)
    results: list[StemSet] = []
    with LocalSeparator(tiny) as separator:
        threads = [
            threading.Thread(
                target=lambda n=n: results.append(
                    separator.separate(SeparationRequest(mixture, tmp_path / str(n), FLOAT))
                )
            )
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 3
    assert loads == [0]


def test_out_of_memory_is_named(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(*_: object) -> None:
        torch.empty(1 << 60)  # what torch itself says when the host has no more

    monkeypatch.setattr(Network, "__call__", starve)
    with pytest.raises(OutOfMemory, match="cpu ran out of memory") as caught:
        LocalSeparator(tiny).separate(SeparationRequest(make_mixture(), tmp_path, FLOAT))
    assert caught.value.retryable


def test_mixture_has_to_fit_the_model(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    with pytest.raises(ProtocolError, match="at 48000 Hz, tiny needs 2 at 44100 Hz"):
        LocalSeparator(tiny).separate(SeparationRequest(make_mixture(rate=48_000), tmp_path, FLOAT))


def test_mixture_files_that_went_wrong_since(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    separator = LocalSeparator(tiny)
    mixture = make_mixture()
    longer = mixture.model_copy(update={"frames": mixture.frames + 1})
    with pytest.raises(ProtocolError, match="samples at 44100 Hz, not 2 x"):
        separator.separate(SeparationRequest(longer, tmp_path, FLOAT))
    mixture.path.write_bytes(b"RIFF but no more")
    with pytest.raises(CorruptAudio, match="can't be decoded"):
        separator.separate(SeparationRequest(mixture, tmp_path, FLOAT))
    mixture.path.unlink()
    with pytest.raises(SourceMissing):
        separator.separate(SeparationRequest(mixture, tmp_path, FLOAT))
    bad = np.full((2, 4410), np.nan, np.float32)
    with pytest.raises(CorruptAudio, match="not finite"):
        separator.separate(
            SeparationRequest(make_mixture(bad).model_copy(update={"peak": 0.0}), tmp_path, FLOAT)
        )


def test_cpu_always_has_a_deadline() -> None:
    assert default_deadline_s(1.0, "cpu") == 600
    assert default_deadline_s(240.0, "cpu") == 14_400
    assert default_deadline_s(240.0, "cuda:0") is None


def test_a_service_always_has_a_deadline() -> None:
    assert default_deadline_s(240.0, "") == 6 * 3600


def test_an_engine_crosses_to_another_process_and_gives_the_same_bytes(
    tiny: ModelSpec, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    engine = Pooled([LocalSeparator(tiny, threads=1, options=LocalOptions(openvino="off"))])
    here = engine.separate(SeparationRequest(make_mixture(), tmp_path / "here", FLOAT))
    request = SeparationRequest(make_mixture(), tmp_path / "there", FLOAT)
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        there = processes.submit(engine.separate, request).result()
    assert there.separation_id == here.separation_id
    for name, path in here.stems.items():
        assert np.array_equal(read(path), read(there.stems[name]))
