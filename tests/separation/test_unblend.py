"""The second family: its own output, in pieces of any length, with the manners of the first."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from tasks.contracts import SeparationSettings, StemSet
from tasks.errors import (
    DeadlineMissed,
    Interrupted,
    LibraryMissing,
    OutOfMemory,
    ProtocolError,
    SettingsError,
    WeightsMissing,
    WeightsRefused,
)
from tasks.separation import find_model, list_models
from tasks.separation.local_engine import local_engine
from tasks.separation.models import ModelSpec, family_of, verify
from tasks.separation.unblend import recipes
from tests.separation.conftest import MixtureMaker
from tests.separation.loopback_hub import LoopbackHub, loopback_hub
from tests.separation.test_local_separator import agreement_db, read

if not recipes.is_installed():
    pytest.skip("unblend isn't installed (the extra `unblend`)", allow_module_level=True)

from tasks.separation.request import Callbacks, SeparationRequest
from tasks.separation.unblend import UnblendSeparator, adapter, separator, windows
from tests.separation.tiny_unblend import ENSEMBLES, NETWORKS, make_registry

ONES = sorted(set(NETWORKS) - {"htdemucs"})
EVERY = [*ONES, *ENSEMBLES]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`metadata.yaml` and, in `weights`, the files that it names."""
    folder = tmp_path_factory.mktemp("unblend")
    make_registry(folder, folder / "weights")
    return folder


@pytest.fixture
def weights(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder with the tiny networks, which the library's registry is now of."""
    monkeypatch.setattr(recipes, "_registry_file", lambda: made / "metadata.yaml")
    monkeypatch.setenv("UNBLEND_CACHE_DIR", str(made / "none"))
    return made / "weights"


def spec_of(name: str, weights: Path) -> ModelSpec:
    return find_model(name, models_dir=weights, offline=True)


def floats(model: str, **more: Any) -> SeparationSettings:
    return SeparationSettings(model=model, format="wav", bit_depth="32f", **more)


def librarys_own(spec: ModelSpec, wave: NDArray[np.float64], **how: Any) -> dict[str, Any]:
    """The stems that the library makes of the whole track at once."""
    whole = adapter.load(spec, "cpu")
    found = whole.separate((torch.from_numpy(wave).float(), 44_100), **how)
    return {name: stem.double().numpy() for name, stem in found.sources.items()}


def agreement(found: StemSet, theirs: dict[str, NDArray[np.float64]]) -> float:
    return min(agreement_db(read(path), theirs[name]) for name, path in found.stems.items())


@pytest.mark.parametrize("name", EVERY)
def test_agrees_with_the_library_itself(
    weights: Path, make_mixture: MixtureMaker, tmp_path: Path, name: str
) -> None:
    spec = spec_of(name, weights)
    mixture = make_mixture(seconds=1.3)
    found = UnblendSeparator(spec).separate(
        SeparationRequest(mixture, tmp_path / "stems", floats(name))
    )
    assert tuple(found.stems) == spec.sources
    assert (found.model, found.engine, found.device) == (name, "local_cpu", "cpu")
    assert agreement(found, librarys_own(spec, read(mixture.path), shifts=0)) > 80


@pytest.mark.parametrize("shifts", [0, 2])
@pytest.mark.parametrize("name", ONES)
def test_a_long_track_in_pieces_is_what_it_is_as_a_whole(
    weights: Path, make_mixture: MixtureMaker, tmp_path: Path, name: str, shifts: int
) -> None:
    spec = spec_of(name, weights)
    mixture = make_mixture(seconds=7.7)
    ours = UnblendSeparator(spec, window_s=2.2)
    assert len(ours._windows(mixture.frames, 0.25)) > 2
    settings = floats(name, shifts=shifts, seed=3)
    found = ours.separate(SeparationRequest(mixture, tmp_path / "stems", settings))
    theirs = librarys_own(spec, read(mixture.path), shifts=shifts, seed=3)
    assert agreement(found, theirs) > 150  # the same samples


def test_pieces_that_differ_are_faded_into_each_other() -> None:
    # As those of an ensemble do, whose members have segments of different lengths.
    made = windows.windows(1000, 40, 30, longest=300, fade=100)
    joiner = windows.Joiner()
    joined = [
        block
        for level, each in enumerate(made)
        for block in joiner.add(each, np.full((1, 1, each.stop - each.start), level, np.float32))
    ]
    whole = np.concatenate(joined, axis=-1)[0, 0]
    assert len(made) > 2
    assert whole.shape == (1000,)
    assert (whole[0], whole[-1]) == (0, len(made) - 1)
    assert np.diff(whole).min() >= 0
    assert np.diff(whole).max() < 0.02


@pytest.mark.parametrize(("frames", "segment", "stride"), [(10, 4, 3), (1000, 40, 30), (999, 8, 6)])
def test_windows_cover_each_frame_once_and_reach_a_segment_further(
    frames: int, segment: int, stride: int
) -> None:
    made = windows.windows(frames, segment, stride, longest=100, fade=10)
    assert [each.first for each in made[1:]] == [each.last for each in made[:-1]]
    assert (made[0].first, made[-1].last) == (0, frames)
    for each in made:
        assert each.start % stride == 0
        assert each.start == 0 or each.first - each.start >= segment
        assert each.stop == frames or each.stop - each.last - each.fade >= segment
    assert made[-1].fade == 0


@pytest.mark.parametrize("settings", [{}, {"shifts": 2, "seed": 5}])
def test_same_input_same_bytes(
    weights: Path, make_mixture: MixtureMaker, tmp_path: Path, settings: dict[str, int]
) -> None:
    spec = spec_of("scnet_small", weights)
    mixture = make_mixture(seconds=1.1)
    runs: list[list[bytes]] = []
    for run in ("one", "two"):
        random.seed(run)  # nobody else's random numbers may matter
        torch.manual_seed(len(runs))
        wanted = SeparationSettings(model="scnet_small", **settings)
        found = UnblendSeparator(spec).separate(SeparationRequest(mixture, tmp_path / run, wanted))
        runs.append([path.read_bytes() for path in found.stems.values()])
    assert runs[0] == runs[1]


def test_only_what_is_asked_for_is_written_at_the_gain_of_the_others(
    weights: Path, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    spec = spec_of("scnet_xl_wide_v5", weights)
    mixture = make_mixture(seconds=0.8, level=3.0)
    wanted = SeparationSettings(model=spec.name, stems=("vocals", "drums"))
    ours = UnblendSeparator(spec)
    first = ours.separate(SeparationRequest(mixture, tmp_path / "first", wanted))
    assert set(first.stems) == {"vocals", "drums"}
    assert not first.all_stems
    again = ours.separate(
        SeparationRequest(
            mixture, tmp_path / "again", wanted, only=frozenset({"drums"}), gain=first.gain
        )
    )
    assert set(again.stems) == {"drums"}
    assert again.stems["drums"].read_bytes() == first.stems["drums"].read_bytes()


def test_silence_needs_no_network(
    weights: Path, make_mixture: MixtureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separator, "load", None)
    mixture = make_mixture(np.zeros((2, 50_000), np.float32))
    found = UnblendSeparator(spec_of("scnet_small", weights)).separate(
        SeparationRequest(mixture, tmp_path / "stems", SeparationSettings(model="scnet_small"))
    )
    assert not any(soundfile.read(path)[0].any() for path in found.stems.values())


def test_progress_grows_to_one_over_the_pieces(
    weights: Path, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    shares: list[float] = []
    ours = UnblendSeparator(spec_of("scnet_small", weights), window_s=2.2)
    ours.separate(
        SeparationRequest(
            make_mixture(seconds=7.7),
            tmp_path / "s",
            SeparationSettings(model="scnet_small"),
            callbacks=Callbacks(on_progress=shares.append),
        )
    )
    assert shares == sorted(shares)
    assert len(set(shares)) > 20
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_it_ends_between_segments_when_asked_or_late(
    weights: Path, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    ours = UnblendSeparator(spec_of("scnet_small", weights))
    mixture, wanted = make_mixture(seconds=6.0), SeparationSettings(model="scnet_small")
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(Interrupted, match="Ensemble – song"):
        ours.separate(
            SeparationRequest(
                mixture, tmp_path / "stems", wanted, callbacks=Callbacks(stopping=stop)
            )
        )
    assert len(asked) == 4
    with pytest.raises(DeadlineMissed):
        ours.separate(SeparationRequest(mixture, tmp_path / "stems", wanted, deadline_s=0.001))
    assert not (tmp_path / "stems").exists()
    assert ours.separate(
        SeparationRequest(mixture, tmp_path / "stems", wanted)
    ).stems  # it still works


def test_it_refuses_what_does_not_fit(
    weights: Path, make_mixture: MixtureMaker, tmp_path: Path
) -> None:
    ours = UnblendSeparator(spec_of("scnet_small", weights))
    wanted = SeparationSettings(model="scnet_small")
    with pytest.raises(ProtocolError, match="48000 Hz"):
        ours.separate(SeparationRequest(make_mixture(rate=48_000, seconds=0.1), tmp_path, wanted))
    with pytest.raises(SettingsError, match="no stem 'guitar'"):
        ours.separate(
            SeparationRequest(
                make_mixture(), tmp_path, wanted.model_copy(update={"stems": ("guitar",)})
            )
        )
    with pytest.raises(SettingsError, match="xpu"):
        UnblendSeparator(spec_of("scnet_small", weights), device="xpu")


@pytest.mark.parametrize(
    ("failure", "ours"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), ProtocolError),
    ],
)
def test_torchs_failures_are_told_as_ours(
    weights: Path,
    make_mixture: MixtureMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    ours: type[Exception],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    engine = UnblendSeparator(spec_of("scnet_small", weights))
    monkeypatch.setattr(engine._loaded(), "separate", fail)
    with pytest.raises(ours, match="Ensemble – song"):
        engine.separate(
            SeparationRequest(make_mixture(), tmp_path, SeparationSettings(model="scnet_small"))
        )


def test_the_identity_is_over_weights_recipe_and_precision(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of("scnet_small", weights)
    wanted = SeparationSettings(model=spec.name)
    here = UnblendSeparator(spec).separation_id(wanted)
    assert here.startswith("scnet_small-")
    others = [
        UnblendSeparator(spec.model_copy(update={field: "0" * 64})).separation_id(wanted)
        for field in ("weights_sha256", "recipe_sha256")
    ]
    monkeypatch.setattr(separator, "precision_of", lambda device: "fp16")
    others.append(UnblendSeparator(spec).separation_id(wanted))
    assert len({here, *others}) == 4


def test_the_family_decides_the_engine(weights: Path, tiny: ModelSpec) -> None:
    second = local_engine(spec_of("scnet_small", weights), device="cpu", reasons=("because",))
    assert isinstance(second, UnblendSeparator)
    assert type(local_engine(tiny, device="cpu")).__name__ == "LocalSeparator"


def test_nothing_of_torchaudio_stays_behind_where_it_cannot_be_imported() -> None:
    adapter.library()
    assert not isinstance(sys.modules.get("torchaudio"), adapter._Absent)


def test_a_library_that_cannot_be_imported_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter.library.cache_clear()
    monkeypatch.setitem(sys.modules, "unblend", None)
    with pytest.raises(LibraryMissing, match=r"can't be imported .*stemwright\[unblend\]"):
        adapter.library()
    monkeypatch.undo()
    assert adapter.library()


# --- weights -----------------------------------------------------------------------------------


@pytest.fixture
def hub(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    from huggingface_hub import constants

    with loopback_hub({"Somebody/tiny": weights}) as server:
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


def test_weights_are_fetched_from_the_hub_once(hub: LoopbackHub) -> None:
    hub.break_after["scnet_xl_wide_v5.safetensors"] = [50_000]
    spec = find_model("htdemucs_scnet_ensemble")
    assert [path.name for path in spec.weights] == [
        "htdemucs.safetensors",
        "scnet_xl_wide_v5.safetensors",
    ]
    assert [ask.start for ask in hub.asked] == [0, 0, 50_000]
    assert find_model("htdemucs_scnet_ensemble", offline=True) == spec
    assert find_model("scnet_xl_wide_v5", offline=True).origin == "hub"  # a member of it
    assert verify("htdemucs_scnet_ensemble").sound
    assert len(hub.asked) == 3


def test_a_hub_with_other_weights_than_the_registrys_is_refused(
    hub: LoopbackHub, weights: Path, tmp_path: Path
) -> None:
    hub.repos["Somebody/tiny"] = tmp_path
    shutil.copy(weights / "htdemucs.safetensors", tmp_path / "scnet_small.safetensors")
    with pytest.raises(WeightsRefused, match="should have"):
        find_model("scnet_small")
    assert hub.asked == []


def test_offline_the_missing_files_and_the_folder_are_named(weights: Path, tmp_path: Path) -> None:
    shutil.copy(weights / "melband_roformer_kim.safetensors", tmp_path)
    with pytest.raises(WeightsMissing) as caught:
        find_model("roformer_vocals_ensemble", models_dir=tmp_path, offline=True)
    for part in (
        ": bs_roformer_anvuew.safetensors.",
        str(tmp_path),
        "huggingface.co/Somebody/tiny",
    ):
        assert part in str(caught.value)


def test_a_file_of_another_content_is_refused(weights: Path, tmp_path: Path) -> None:
    shutil.copy(weights / "htdemucs.safetensors", tmp_path / "scnet_small.safetensors")
    with pytest.raises(WeightsRefused, match="registry wants"):
        find_model("scnet_small", models_dir=tmp_path, offline=True)
    assert not verify("scnet_small", models_dir=tmp_path).sound


def test_the_librarys_own_cache_is_used(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of("scnet_small", weights)
    monkeypatch.setenv("UNBLEND_CACHE_DIR", str(tmp_path))
    shutil.copy(spec.weights[0], tmp_path / f"{spec.weights_sha256[:16]}.safetensors")
    assert find_model("scnet_small", offline=True).weights_sha256 == spec.weights_sha256


def test_the_list_knows_which_are_here(weights: Path, tmp_path: Path) -> None:
    shutil.copy(weights / "scnet_small.safetensors", tmp_path)
    entries = {entry.name: entry for entry in list_models(tmp_path)}
    assert entries["scnet_small"].present
    assert entries["scnet_small"].where == str(tmp_path)
    assert entries["scnet_xl_wide_v5"].missing == ("scnet_xl_wide_v5.safetensors",)
    assert not entries["scnet_xl_wide_v5"].needs


def test_what_is_said_of_the_models_is_what_the_librarys_registry_says() -> None:
    file = recipes._registry_file()
    assert file
    theirs = recipes._read(file)
    ours = family_of("unblend").known
    assert set(ours) == set(theirs) - {"htdemucs", "htdemucs_ft", "htdemucs_6s"}
    for name, known in ours.items():
        recipe = recipes.recipe_of(name)
        assert known.stems == recipe.sources
        assert abs(known.size_bytes - sum(each.size_bytes for each in recipe.artifacts)) < 1e6
        stated = theirs[name]["license"]
        assert known.licence == stated or stated in ("unlicensed", "mixed")
        assert (recipe.sample_rate_hz, recipe.channels) == (44_100, 2)
