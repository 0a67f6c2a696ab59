"""Finding weights: quickly, without torch, without the network when told so, and never a pickle."""

from __future__ import annotations

import errno
import hashlib
import json
import pickle
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tasks.contracts import STEMS
from tasks.errors import (
    LibraryMissing,
    SettingsError,
    SourceMissing,
    UnknownModel,
    WeightsMissing,
    WeightsRefused,
)
from tasks.separation import models
from tasks.separation.models import (
    ModelSpec,
    checkpoints,
    demucs_files,
    digests,
    families,
    family_of,
    find_model,
    import_checkpoint,
    list_models,
    load_network,
    verify,
)
from tasks.separation.models.families import demucs_family
from tasks.separation.unblend import recipes
from tests.tiny_model import SHAPE, make_tiny_model, tiny_network


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the network was used")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_model_of_the_folder(tiny: ModelSpec, models_dir: Path) -> None:
    weights = models_dir / "tiny0000.safetensors"
    assert tiny.sources == STEMS
    assert (tiny.sample_rate_hz, tiny.channels, tiny.segment_s) == (44_100, 2, 0.5)
    assert (tiny.weights, tiny.weights_sha256) == ((weights,), sha256(weights))
    assert (tiny.origin, tiny.bag_weights) == ("folder", None)


def test_the_environment_names_the_folder(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMWRIGHT_MODELS", str(models_dir))
    assert find_model("tiny", offline=True).origin == "folder"


def test_a_bags_digest_is_over_its_members_digests(tmp_path: Path) -> None:
    make_tiny_model(tmp_path, "duo", members=2)
    spec = find_model("duo", models_dir=tmp_path, offline=True)
    joined = "".join(sha256(path) for path in spec.weights)
    assert spec.weights_sha256 == hashlib.sha256(joined.encode()).hexdigest()


def test_finding_needs_no_torch(models_dir: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tasks.separation import find_model; "
        f"find_model('tiny', models_dir=Path({str(models_dir)!r}), offline=True); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.usefixtures("no_network")
def test_offline_without_weights_names_files_and_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing) as caught:
        find_model("htdemucs", models_dir=tmp_path, offline=True)
    words = str(caught.value)
    for part in ("htdemucs.yaml", "955717e8.safetensors", str(tmp_path), "`embedded` needs no"):
        assert part in words


@pytest.mark.usefixtures("no_network")
def test_hub_offline_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsMissing, match="offline"):
        find_model("htdemucs_ft")
    with pytest.raises(SettingsError, match="HF_HUB_OFFLINE is set"):
        models.fetch("htdemucs")


def test_no_network_is_noticed_at_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups: list[object] = []

    def unresolved(host: object, *_: object, **__: object) -> None:
        lookups.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    with pytest.raises(WeightsMissing, match="can't be reached"):
        find_model("htdemucs_6s")
    assert len(lookups) == 1


@pytest.mark.usefixtures("no_network")
def test_weights_in_the_hubs_cache_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    repo = cache / "models--adefossez--HTDemucs-6s"
    snapshot = repo / "snapshots" / ("0" * 40)
    six = (*STEMS, "guitar", "piano")
    make_tiny_model(snapshot, "htdemucs_6s", sources=six)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    spec = find_model("htdemucs_6s", offline=True)
    assert (spec.origin, spec.sources, spec.licence) == ("hub", six, "MIT")


@pytest.mark.usefixtures("no_network")
def test_the_embedded_model_is_always_there() -> None:
    spec = find_model("embedded")
    assert (spec.origin, spec.sources, spec.sample_rate_hz) == ("embedded", STEMS, 44_100)


@pytest.mark.parametrize("signature_file", ["955717e8.th", "955717e8-8726e21a.th"])
def test_a_pickle_that_demucs_did_not_publish_is_refused_with_the_way_to_import_it(
    tmp_path: Path, signature_file: str
) -> None:
    (tmp_path / "htdemucs.yaml").write_text("models: ['955717e8']")
    (tmp_path / signature_file).write_bytes(pickle.dumps({}))
    with pytest.raises(WeightsRefused) as caught:
        find_model("htdemucs", models_dir=tmp_path, offline=True)
    assert f"models import {tmp_path / signature_file} --name htdemucs --trust" in str(caught.value)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Have demucs' own list name a checkpoint that the test made."""

    def add(path: Path) -> None:
        monkeypatch.setattr(
            "tasks.separation.models.demucs_files.published_checkpoints",
            lambda: {path.stem.split("-")[0]: sha256(path)[:8]},
        )

    return add


def test_a_published_checkpoint_in_the_folder_is_converted_once(
    tmp_path: Path, publish: Callable[[Path], None]
) -> None:
    source = checkpoint(tmp_path / "955717e8-8726e21a.th")
    publish(source)
    entry = next(each for each in list_models(tmp_path) if each.name == "htdemucs")
    assert (entry.present, entry.where) == (True, str(tmp_path))
    assert not (tmp_path / "955717e8.safetensors").exists()  # listing converts nothing

    spec = find_model("htdemucs", models_dir=tmp_path, offline=True)
    assert (spec.weights, spec.origin) == ((tmp_path / "955717e8.safetensors",), "folder")
    loaded = load_network(spec).state_dict()
    assert all(torch.equal(loaded[key], t) for key, t in tiny_network(3).state_dict().items())

    written = spec.weights[0].stat().st_mtime_ns
    assert find_model("htdemucs", models_dir=tmp_path, offline=True) == spec
    assert spec.weights[0].stat().st_mtime_ns == written


def test_beside_a_checkpoint_that_nothing_can_be_written_to_the_cache_holds_the_weights(
    tmp_path: Path, publish: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    publish(checkpoint(folder / "955717e8.th"))
    opened = checkpoints.convert

    def read_only(path: Path, target: Path, *, trust: bool = False) -> None:
        if target.parent == folder:
            raise OSError(errno.EROFS, "Read-only file system", str(target))
        opened(path, target, trust=trust)

    monkeypatch.setattr(checkpoints, "convert", read_only)
    spec = find_model("htdemucs", models_dir=folder, offline=True)
    assert sorted(path.name for path in folder.iterdir()) == ["955717e8.th"]
    assert spec.weights[0].is_relative_to(digests.cache_file().parent)
    monkeypatch.setattr(checkpoints, "convert", None)  # not called a second time
    assert find_model("htdemucs", models_dir=folder, offline=True) == spec


class _Trap:
    """A pickle of this makes a file when it is opened."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_even_under_a_published_digest_no_foreign_code_runs(
    tmp_path: Path, publish: Callable[[Path], None]
) -> None:
    # Eight hex digits can be forged.
    sprung = tmp_path / "sprung"
    trap = tmp_path / "955717e8.th"
    checkpoint(trap, training_args=_Trap(sprung))
    publish(trap)
    with pytest.raises(WeightsRefused, match="without running other code"):
        find_model("htdemucs", models_dir=tmp_path, offline=True)
    with pytest.raises(WeightsRefused, match="--trust"):
        import_checkpoint(trap, tmp_path / "models")
    assert not sprung.exists()
    import_checkpoint(trap, tmp_path / "models", trust=True)
    assert sprung.exists()


@pytest.mark.parametrize("core", ["core", "_core"])
def test_numbers_of_any_numpy_in_a_checkpoint_are_read(
    tmp_path: Path, publish: Callable[[Path], None], core: str
) -> None:
    source = checkpoint(tmp_path / "955717e8.th", freq_emb=np.float64(0.2), depth=np.int64(4))
    rename_in_pickle(source, b"numpy._core.multiarray", f"numpy.{core}.multiarray".encode())
    publish(source)
    kwargs = json.loads(metadata_of(find_model("htdemucs", models_dir=tmp_path).weights[0]))
    assert (kwargs["freq_emb"], kwargs["depth"]) == (0.2, 4)


def metadata_of(weights: Path) -> str:
    from safetensors import safe_open

    with safe_open(str(weights), framework="numpy") as file:
        return str(file.metadata()["kwargs"])


def rename_in_pickle(path: Path, old: bytes, new: bytes) -> None:
    """Give a module another name in a checkpoint's pickle, as another version would have."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body.replace(old, new) if name.endswith("data.pkl") else body)


@pytest.mark.parametrize(
    ("name", "near"),
    [("htdemcus", "htdemucs"), ("tinny", "tiny"), ("../../etc/passwd", "there are .*embedded")],
)
def test_an_unknown_name_brings_the_nearest(models_dir: Path, name: str, near: str) -> None:
    with pytest.raises(UnknownModel, match=near):
        find_model(name, models_dir=models_dir, offline=True)


def test_a_bag_with_a_member_missing_names_it(tmp_path: Path) -> None:
    make_tiny_model(tmp_path, "duo", members=2)
    (tmp_path / "duo0001.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"duo0001\.safetensors"):
        find_model("duo", models_dir=tmp_path, offline=True)


@pytest.mark.parametrize(
    "listing", ["models: ['../secret']", "models: []", "- 1", "{", "models: [a]\nweights: []"]
)
def test_a_broken_listing_is_refused(tmp_path: Path, listing: str) -> None:
    (tmp_path / "odd.yaml").write_text(listing)
    with pytest.raises(WeightsRefused):
        find_model("odd", models_dir=tmp_path, offline=True)


def test_weights_cut_short_are_refused(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    weights = tmp_path / "tiny0000.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(WeightsRefused, match="damaged, cut short"):
        find_model("tiny", models_dir=tmp_path, offline=True)
    assert not verify("tiny", models_dir=tmp_path).sound


@pytest.mark.parametrize(
    "metadata",
    [
        {"klass": "os.system", "args": '["true"]', "kwargs": "{}"},
        {"klass": "demucs.utils.fatal", "args": "[]", "kwargs": "{}"},
        {
            "klass": "demucs.htdemucs.HTDemucs",
            "args": "[]",
            "kwargs": '{"sources": ["a"]}',
            "structure": '{"_class": "subprocess.Popen"}',
        },
        {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": "nonsense"},
        {"klass": "demucs.htdemucs.HTDemucs"},
        {},
    ],
)
def test_metadata_may_only_name_demucs_networks(tmp_path: Path, metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    (tmp_path / "odd.yaml").write_text("models: [odd]")
    save_file({"x": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata=metadata)
    with pytest.raises(WeightsRefused):
        find_model("odd", models_dir=tmp_path, offline=True)


def test_tensors_that_do_not_fit_are_refused_when_loaded(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "odd.yaml").write_text("models: [odd]")
    kwargs = json.dumps({"sources": list(STEMS), **SHAPE})
    save_file(
        {"x": torch.zeros(1)},
        tmp_path / "odd.safetensors",
        metadata={"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": kwargs},
    )
    spec = find_model("odd", models_dir=tmp_path, offline=True)
    with pytest.raises(WeightsRefused, match="can't be loaded"):
        load_network(spec)


def test_digests_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = digests.sha256_of(path)
    assert first == sha256(path)
    entries = json.loads(digests.cache_file().read_text())
    entries[str(path)][2] = "remembered"
    digests.cache_file().write_text(json.dumps(entries))
    assert digests.sha256_of(path) == "remembered"
    assert digests.sha256_of(path, fresh=True) == first
    path.write_bytes(b"other")
    assert digests.sha256_of(path) == sha256(path)


@pytest.mark.parametrize("content", ["", "[]", '{"x": 1}'])
def test_a_broken_digest_cache_costs_nothing(tmp_path: Path, content: str) -> None:
    digests.cache_file().parent.mkdir(parents=True, exist_ok=True)
    digests.cache_file().write_text(content)
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    assert digests.sha256_of(path) == sha256(path)


def checkpoint(path: Path, training_args: object = None, **more: object) -> Path:
    """A checkpoint as demucs pickles them."""
    from fractions import Fraction

    from demucs.htdemucs import HTDemucs

    kwargs = {"sources": list(STEMS), **SHAPE, "segment": Fraction(1, 2), **more}
    package = {"klass": HTDemucs, "args": (), "kwargs": kwargs, "training_args": training_args}
    torch.save({**package, "state": tiny_network(3).state_dict()}, path)
    return path


def test_a_trusted_checkpoint_becomes_safetensors_with_the_same_weights(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "cafe0001.th")
    with pytest.raises(WeightsRefused, match="isn't one that demucs published"):
        import_checkpoint(source, tmp_path / "models", "mine")
    import_checkpoint(source, tmp_path / "models", "mine", trust=True)
    spec = find_model("mine", models_dir=tmp_path / "models", offline=True)
    assert (spec.sources, spec.segment_s) == (STEMS, 0.5)
    loaded = load_network(spec).state_dict()
    assert all(torch.equal(loaded[key], t) for key, t in tiny_network(3).state_dict().items())


def test_a_published_digest_vouches(tmp_path: Path, publish: Callable[[Path], None]) -> None:
    assert demucs_files.published_checkpoints()["955717e8"] == "8726e21a"
    source = checkpoint(tmp_path / "955717e8.th")
    publish(source)
    made = import_checkpoint(source, tmp_path / "models")
    assert made.name == "955717e8.safetensors"
    assert find_model("htdemucs", models_dir=tmp_path / "models", offline=True).origin == "folder"


def test_import_refuses_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        import_checkpoint(tmp_path / "none.th", tmp_path, trust=True)
    (tmp_path / "text.th").write_text("not a checkpoint")
    with pytest.raises(WeightsRefused):
        import_checkpoint(tmp_path / "text.th", tmp_path, trust=True)
    torch.save({"klass": dict, "args": (), "kwargs": {}, "state": {}}, tmp_path / "odd.th")
    with pytest.raises(WeightsRefused, match="isn't a demucs model"):
        import_checkpoint(tmp_path / "odd.th", tmp_path, trust=True)


def test_import_does_not_slip_into_another_model(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "cafe0001.th")
    with pytest.raises(SettingsError, match="htdemucs is made of 955717e8"):
        import_checkpoint(source, tmp_path / "models", "htdemucs", trust=True)


@pytest.mark.usefixtures("no_network")
def test_the_list_says_what_is_here_and_what_is_missing(models_dir: Path) -> None:
    entries = {entry.name: entry for entry in list_models(models_dir)}
    assert {*(name for one in families() for name in one.known), "tiny"} == set(entries)
    assert {"htdemucs", "scnet_small"} <= set(entries)
    assert entries["tiny"].present
    assert entries["tiny"].where == str(models_dir)
    ft = entries["htdemucs_ft"]
    assert not ft.present
    assert len(ft.missing) == 5
    assert (ft.published_sdr_db, ft.licence) == (9.0, "MIT")
    assert entries["htdemucs_6s"].stems == (*STEMS, "guitar", "piano")


@pytest.mark.usefixtures("no_network")
def test_without_unblend_its_models_are_listed_and_say_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recipes, "_registry_file", lambda: None)
    entry = next(each for each in list_models() if each.name == "scnet_xl_wide_v5")
    assert (entry.family, entry.present, entry.published_sdr_db) == ("unblend", False, 9.87)
    assert entry.needs == "pip install 'stemwright[unblend]'"
    assert set(entry.stems) == set(STEMS)
    for offline in (True, False):
        with pytest.raises(LibraryMissing, match=r"pip install 'stemwright\[unblend\]'"):
            find_model("scnet_xl_wide_v5", offline=offline)
    with pytest.raises(UnknownModel, match="near are scnet_xl_wide_v5"):
        find_model("scnet_xl_wide", offline=True)


def test_hub_names_are_demucs_own() -> None:
    from demucs.hf import DEFAULT_NAMESPACE, hf_repo_name

    for name in family_of("demucs").known:
        if name != "embedded":
            assert demucs_family.repo_of(name) == f"{DEFAULT_NAMESPACE}/{hf_repo_name(name)}"
            assert demucs_files.published_bag(name) is not None


def test_verify_reads_the_files_again(models_dir: Path) -> None:
    found = verify("tiny", models_dir=models_dir)
    weights = models_dir / "tiny0000.safetensors"
    assert found.sound
    assert found.files == {str(weights): sha256(weights)}
    assert yaml.safe_load((models_dir / "tiny.yaml").read_text()) == {"models": ["tiny0000"]}
