"""What is wrong with the command or the settings is said at once, with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

import flows.cli.embedded
from flows.cli.options import RunOptions
from flows.cli.separate import read_settings
from flows.parameters import CatalogSources, RunControl, Separation, TrackSource
from tests.cli.conftest import Invoke, document, no_prefect, write_excerpt

WRONG = [
    (["separate"], "SOURCE"),
    (["separate", "a.wav", "--nope"], "--nope"),
    (["separate", "a.wav", "--format", "mp3"], "mp3"),
    (["separate", "a.wav", "--limit", "many"], "--limit"),
    (["separate", "a.wav", "--model", "embeded"], "near are embedded"),
    (["separate", "a.wav", "--model", "embedded", "--stems", "vocalz"], "vocalz"),
    (["separate", "a.wav", "--format", "flac", "--bit-depth", "32f"], "wav"),
    (["separate", "a.wav", "--provider", "cloud"], "STEMWRIGHT_ENGINE__API_KEY"),
    (["separate", "a.wav", "--config", "none.yaml"], "none.yaml"),
    (["separate", "a.wav", "--config", "typo.yaml"], "engine.provider"),
    (["plan", "a.wav", "--config", "typo.yaml"], "engine.provider"),
    (["separate", "a.wav", "--model", "embedded"], "no file or folder at a.wav"),
    (["plan", "typo.yaml", "no/where", "b.wav", "--model", "embedded"], "no/where (and 1 more)"),
    (["separate", "a.wav", "--library", "caf\udce9"], "caf\ufffd isn't UTF-8"),
    (["plan", "", "--model", "embedded"], "no file or folder at a blank name"),
    (["reports", "--config", "typo.yaml"], "engine.provider"),
    (["reports", "--rebuild", "--library", "nowhere"], "no library"),
    (["models", "show", "embeded"], "near are embedded"),
    (["models", "import", "a.th"], "--models-dir"),
    (["frobnicate"], "frobnicate"),
]


IDS = [" ".join(args)[-40:] for args, _ in WRONG]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.cli.embedded, "run_catalog", no_prefect)
    (tmp_path / "typo.yaml").write_text("engine:\n  provder: local_cpu\n")


@pytest.mark.parametrize(("args", "named"), WRONG, ids=IDS)
def test_exit_code_2_names_what_is_wrong(
    stemwright: Invoke, tmp_path: Path, args: list[str], named: str
) -> None:
    before = sorted(tmp_path.iterdir())
    result = stemwright(*args)
    assert result.exit_code == 2, result.output
    assert named in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_only_the_command_line_may_allow_private_addresses(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    source = str(tmp_path / "a.wav")
    allowed = read_settings(RunOptions(sources=[source], allow_private=True))
    assert allowed.ingest_policy().allow_private_addresses
    assert not read_settings(RunOptions(sources=[source])).ingest_policy().allow_private_addresses
    for group in (TrackSource, CatalogSources, Separation, RunControl):
        assert not [name for name in group.model_fields if "private" in name or "allow" in name]


@pytest.mark.parametrize(("args", "named"), WRONG, ids=IDS)
def test_with_json_it_is_a_document_too(stemwright: Invoke, args: list[str], named: str) -> None:
    result = stemwright(*args, "--json")
    assert result.exit_code == 2
    said = document(result)
    assert said["exit_code"] == 2
    assert set(said["error"]) == {"type", "message", "remedy"}
    assert named in f"{said['error']['message']} {said['error']['remedy']}"
    assert result.stderr


def test_a_model_that_is_not_here_while_offline(
    stemwright: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HF_HUB_CACHE", "HF_HOME", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    said = " ".join(stemwright("separate", "a.wav", "--offline").stderr.split())
    assert "htdemucs.yaml" in said
    assert ".safetensors" in said
    assert "--models-dir or STEMWRIGHT_MODELS" in said
    result = stemwright("separate", "a.wav", "--offline", "--models-dir", tmp_path / "mine")
    assert result.exit_code == 2
    assert f"in {tmp_path / 'mine'}" in " ".join(result.stderr.split())


def test_a_gpu_that_is_not_there(stemwright: Invoke) -> None:
    from tasks.separation.hardware import detect

    if detect().accelerator:
        pytest.skip("this machine has one")
    result = stemwright("separate", "a.wav", "--model", "embedded", "--provider", "local_gpu")
    assert result.exit_code == 2
    assert "local_gpu" in result.stderr


def test_the_variable_of_a_key_is_named_and_a_key_never_shown(
    stemwright: Invoke, tmp_path: Path
) -> None:
    config = tmp_path / "cloud.yaml"
    config.write_text("engine:\n  provider: cloud\n  api_key: ${MY_OWN_KEY}\n")
    assert "MY_OWN_KEY is not set" in stemwright("separate", "a.wav", "--config", config).stderr
    config.write_text("engine:\n  api_key: s3cret-key\n  provder: cloud\n")
    result = stemwright("separate", "a.wav", "--config", config, "--json")
    assert result.exit_code == 2
    assert "s3cret" not in result.output


def test_no_command_shows_the_help(stemwright: Invoke) -> None:
    result = stemwright()
    assert "separate" in result.output
    assert "stemwright demo" in result.output


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--out", "stems", "-o", "{nope} {stem}"], "no field {nope}"),
        (["-o", "{title} {stem}"], "--out DIR"),
        (["--two-stems", "vocals"], "--out DIR"),
        (["--out", "stems", "--two-stems", "vocalz"], "no stem 'vocalz'"),
    ],
)
def test_what_cannot_be_exported_is_said_before_anything_is_separated(
    stemwright: Invoke, tmp_path: Path, args: list[str], named: str
) -> None:
    write_excerpt("costa_lenta", tmp_path / "a.flac")
    result = stemwright("separate", "a.flac", "--model", "embedded", *args)
    assert result.exit_code == 2, result.output
    assert named in " ".join(result.stderr.split())
    assert not (tmp_path / "library").exists()
