"""`stemwright evaluate`: a MUSDB-style folder, a real small network, museval's own figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from flows.reference_stems import find_tracks
from tasks.contracts import STEMS
from tasks.errors import SettingsError
from tasks.quality.reference import museval_metrics, si_sdr_db
from tests.cli.conftest import Invoke, document
from tests.flows.studio import RATE, run_catalog, write_config
from tests.tiny_model import make_tiny_model


def voice(seed: int, seconds: float = 3, rate: int = RATE) -> np.ndarray:
    """A stereo stem: a few tones and noise, another one for each seed."""
    draw = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    tones = sum(0.05 * np.sin(2 * np.pi * hz * t) for hz in draw.uniform(60, 3000, 3))
    return np.asarray(tones)[:, None] + draw.normal(0, 0.01, (t.size, 2))


def write_stems(folder: Path, stems: dict[str, np.ndarray], *, mixture: bool = True) -> Path:
    folder.mkdir(parents=True)
    files = stems | ({"mixture": np.sum(list(stems.values()), axis=0)} if mixture else {})
    for name, samples in files.items():
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="PCM_24")
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("evaluate")
    return write_config(place / "stemwright.yaml", make_tiny_model(place / "models"))


@pytest.fixture(scope="module")
def musdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tracks as MUSDB18-HQ lays them out; one has no vocals, one no mixture file."""
    root = tmp_path_factory.mktemp("musdb")
    whole = {name: voice(at) for at, name in enumerate(STEMS)}
    whole["vocals"] = np.zeros_like(whole["vocals"])
    write_stems(root / "test" / "Duo - Instrumental", whole)
    summed = {name: voice(10 + at) for at, name in enumerate(STEMS)}
    write_stems(root / "train" / "Trio - No Mixture", summed, mixture=False)
    (root / "train" / "Trio - No Mixture" / "._vocals.wav").write_text("a Mac's own file")
    return root


def evaluated(stemwright: Invoke, *args: object, code: int = 0) -> dict[str, Any]:
    result = stemwright("evaluate", *args, "--json")
    assert result.exit_code == code, result.stderr
    found: dict[str, Any] = document(result)
    assert found["exit_code"] == code
    return found


@pytest.fixture(scope="module")
def separated(
    prefect_server: str, musdb: Path, config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The library of a real run over one of the mixtures."""
    library = tmp_path_factory.mktemp("separated") / "library"
    mixture = musdb / "test" / "Duo - Instrumental" / "mixture.wav"
    assert run_catalog([mixture], library, config).summary.done == 1
    return library


def test_each_stem_has_the_figures_of_direct_calls(
    stemwright: Invoke, musdb: Path, config: Path, separated: Path
) -> None:
    """The library's stems, read here, and museval on the whole of them."""
    found = evaluated(stemwright, musdb / "test", "--library", separated)
    (track,) = found["tracks"]
    assert track["track"] == "Duo - Instrumental"
    assert track["duration_s"] == 3
    (folder,) = {path.parent for path in separated.rglob("report.json")}
    heard = [name for name in STEMS if name != "vocals"]
    read = soundfile.read
    true = {n: read(musdb / "test" / "Duo - Instrumental" / f"{n}.wav")[0] for n in heard}
    gain = json.loads((folder / "report.json").read_text())["stem_set"]["gain"]
    made = {n: read(folder / f"{n}.flac")[0] / gain for n in heard}
    sdr = museval_metrics().bss_eval(
        np.array(list(true.values())),
        np.array(list(made.values())),
        window=RATE,
        hop=RATE,
        filters_len=32,
    )[0]
    for at, name in enumerate(heard):
        stem = track["stems"][name]
        assert stem["sdr_db"] == pytest.approx(float(np.median(sdr[at])), abs=1e-3)
        assert stem["si_sdr_db"] == pytest.approx(si_sdr_db(true[name], made[name]), abs=1e-3)
    silent = track["stems"]["vocals"]
    assert (silent["true_stem_silent"], silent["sdr_db"], silent["si_sdr_db"]) == (True, None, None)
    assert found["stems"]["vocals"]["tracks"] == 0


def test_separating_gives_what_the_library_has(
    stemwright: Invoke, musdb: Path, config: Path, separated: Path
) -> None:
    anew = evaluated(stemwright, musdb, "--config", config, "--model", "tiny")
    assert (anew["model"], anew["failed"]) == ("tiny", [])
    by_name = {track["track"]: track for track in anew["tracks"]}
    assert list(by_name) == ["test/Duo - Instrumental", "train/Trio - No Mixture"]
    kept = evaluated(stemwright, musdb / "test", "--library", separated, "--model", "tiny")
    for name, stem in kept["tracks"][0]["stems"].items():
        same = by_name["test/Duo - Instrumental"]["stems"][name]
        for measure in ("sdr_db", "si_sdr_db", "estimated_si_sdr_db", "score"):
            assert same[measure] == pytest.approx(stem[measure], abs=1e-3)
    medians = [anew["stems"][name]["sdr_db"] for name in STEMS]
    assert anew["mean_sdr_db"] == pytest.approx(np.mean(medians))
    pairs = [
        (stem["estimated_si_sdr_db"], stem["si_sdr_db"])
        for track in anew["tracks"]
        for stem in track["stems"].values()
        if stem["si_sdr_db"] is not None and stem["estimated_si_sdr_db"] is not None
    ]
    assert anew["agreement"]["count"] == len(pairs)
    errors = [abs(estimated - true) for estimated, true in pairs]
    assert anew["agreement"]["mae_db"] == pytest.approx(np.mean(errors))


def test_a_track_that_can_t_be_evaluated_stops_no_other(
    stemwright: Invoke, musdb: Path, config: Path, separated: Path, tmp_path: Path
) -> None:
    shutil.copytree(musdb / "test", tmp_path / "set")
    write_stems(tmp_path / "set" / "Not Separated", {n: voice(30 + ord(n[0])) for n in STEMS})
    args = (tmp_path / "set", "--library", separated)
    found = evaluated(stemwright, *args, code=1)
    assert found["failed"] == ["Not Separated"]
    assert found["tracks"][1]["error"].startswith(f"{separated} has no separation of its mixture")
    assert found["stems"]["drums"]["tracks"] == 1
    shown = stemwright("evaluate", *args)
    assert shown.exit_code == 1
    assert "Not Separated" in shown.stderr
    assert "drums" in shown.stdout
    assert "1 track with" in shown.stdout


def test_what_was_done_before_an_interrupt_is_shown(
    stemwright: Invoke,
    musdb: Path,
    separated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.evaluating import compare

    def then_interrupted(*args: Any, **named: Any) -> Any:
        found = compare(*args, **named)
        monkeypatch.setattr("flows.evaluating.compare", interrupt)
        return found

    def interrupt(*args: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    shutil.copytree(musdb / "test", tmp_path / "twice" / "one")
    shutil.copytree(musdb / "test", tmp_path / "twice" / "two")
    monkeypatch.setattr("flows.evaluating.compare", then_interrupted)
    found = evaluated(stemwright, tmp_path / "twice", "--library", separated, code=130)
    assert found["interrupted"]
    assert [track["track"] for track in found["tracks"]] == ["one/Duo - Instrumental"]


def test_a_folder_without_true_stems_is_refused(
    stemwright: Invoke, tmp_path: Path, config: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "nowhere"):
        found = evaluated(stemwright, folder, "--config", config, code=2)
        assert found["error"]["type"] == "SettingsError"


def test_without_museval_nothing_starts(
    stemwright: Invoke, musdb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    museval_metrics.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = evaluated(stemwright, musdb, code=2)
    assert "pip install 'stemwright[evaluate]'" in found["error"]["remedy"]
    museval_metrics.cache_clear()


def test_tracks_are_folders_at_any_depth(musdb: Path, tmp_path: Path) -> None:
    assert [track.name for track in find_tracks(musdb / "test", STEMS)] == ["Duo - Instrumental"]
    one = find_tracks(musdb / "test" / "Duo - Instrumental", STEMS)
    assert [track.name for track in one] == ["Duo - Instrumental"]
    assert set(one[0].stems) == set(STEMS)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "vocals.wav").write_bytes(b"")
    with pytest.raises(SettingsError, match="holds reference stems"):
        find_tracks(tmp_path, STEMS)


def test_true_stems_of_another_rate_and_one_channel_are_brought_to_the_mixture_s(
    stemwright: Invoke, config: Path, tmp_path: Path
) -> None:
    stems = {name: voice(at, rate=48_000)[:, :1] for at, name in enumerate(STEMS)}
    folder = tmp_path / "set" / "Mono at 48 kHz"
    folder.mkdir(parents=True)
    for name, samples in stems.items():
        soundfile.write(folder / f"{name}.flac", samples, 48_000, subtype="PCM_24")
    found = evaluated(stemwright, tmp_path / "set", "--config", config)
    (track,) = found["tracks"]
    assert track["duration_s"] == 3
    assert all(stem["sdr_db"] is not None for stem in track["stems"].values())
