"""`stemwright doctor` and `models`: what there is, what is missing, and the fix."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke, document
from tests.tiny_model import make_tiny_model


def findings(result: Any) -> dict[str, dict[str, str]]:
    return {finding["check"]: finding for finding in document(result)["findings"]}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise AssertionError("something asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_every_line_has_a_state_and_what_is_not_ok_a_fix(stemwright: Invoke) -> None:
    result = stemwright("doctor", "--model", "embedded", "--json")
    found = findings(result)
    assert set(found) >= {
        "software",
        "configuration",
        "hardware",
        "model",
        "engine",
        "Prefect",
        "cloud API",
        "disk",
    }
    assert {finding["state"] for finding in found.values()} <= {"ok", "warning", "problem"}
    assert all(finding["fix"] for finding in found.values() if finding["state"] != "ok")
    assert document(result)["problems"] == 0
    assert result.exit_code == 0
    assert found["engine"]["text"].endswith(".")
    assert "separation.model from the command line" in found["configuration"]["text"]


@pytest.mark.usefixtures("no_network")
def test_a_broken_configuration_is_a_problem_and_the_rest_is_still_looked_at(
    stemwright: Invoke, tmp_path: Path
) -> None:
    (tmp_path / "stemwright.yaml").write_text("engine:\n  provder: cloud\n")
    result = stemwright("doctor", "--json")
    assert result.exit_code == 1
    found = findings(result)
    assert found["configuration"]["state"] == "problem"
    assert "engine.provider" in found["configuration"]["text"]
    assert found["configuration"]["fix"]
    assert "hardware" in found


def test_weights_that_a_run_would_fetch_are_a_warning_and_offline_a_problem(
    stemwright: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    found = findings(stemwright("doctor", "--json"))["model"]
    if found["state"] == "ok":
        pytest.skip("htdemucs is on this machine")
    assert found["state"] == "warning"
    assert "stemwright models fetch htdemucs" in found["fix"]
    offline = stemwright("doctor", "--offline", "--json")
    assert findings(offline)["model"]["state"] == "problem"
    assert offline.exit_code == 1


def test_apis_that_do_not_answer(
    stemwright: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("PREFECT_API_URL", f"{nobody}/api")
    (tmp_path / "stemwright.yaml").write_text(
        f"engine:\n  api_key: s3cret-key\n  base_url: {nobody}/v1\n"
    )
    result = stemwright("doctor", "--model", "embedded", "--json")
    found = findings(result)
    for api in ("Prefect", "cloud API"):
        assert found[api]["state"] == "problem"
        assert nobody in found[api]["text"]
        assert found[api]["fix"]
    assert "s3cret" not in result.output


def test_a_library_that_cannot_be_written(stemwright: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    found = findings(stemwright("doctor", "--library", tmp_path / "file/library", "--json"))
    assert found["disk"]["state"] == "problem"
    assert str(tmp_path / "file") in found["disk"]["text"]


def test_lines_for_people(stemwright: Invoke) -> None:
    lines = stemwright("doctor", "--model", "embedded").stdout.splitlines()
    assert all(line.split()[0] in ("ok", "warning", "problem", "→") for line in lines)


def test_models_list_and_verify(stemwright: Invoke, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "models")
    listed = document(stemwright("models", "list", "--models-dir", tmp_path / "models", "--json"))
    models = {model["name"]: model for model in listed["models"]}
    assert models["embedded"]["present"]
    assert models["tiny"]["present"]
    assert models["htdemucs"]["stems"] == ["drums", "bass", "other", "vocals"]
    sound = stemwright("models", "verify", "tiny", "--models-dir", tmp_path / "models", "--json")
    assert sound.exit_code == 0
    (weights,) = (tmp_path / "models").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    broken = stemwright("models", "verify", "tiny", "--models-dir", tmp_path / "models", "--json")
    assert broken.exit_code == 1
    (model,) = document(broken)["models"]
    assert model["problems"]


def test_a_pickle_is_not_opened_without_trust(stemwright: Invoke, tmp_path: Path) -> None:
    (tmp_path / "a.th").write_bytes(b"PK\x03\x04")
    result = stemwright("models", "import", "a.th", "--models-dir", tmp_path / "models", "--json")
    assert result.exit_code == 2
    assert "--trust" in result.stderr
    assert not list(tmp_path.glob("models/*"))


@pytest.mark.usefixtures("no_network")
def test_tuning_measures_and_is_remembered(
    stemwright: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_model(tmp_path / "models")
    asked = ("doctor", "--model", "tiny", "--models-dir", tmp_path / "models", "--json")
    before = findings(stemwright(*asked))["speed"]
    assert before["text"] == "not measured yet"
    assert "doctor --tune" in before["fix"]
    tuned = findings(stemwright(*asked, "--tune"))["speed"]
    assert "s of audio a second at best; auto takes" in tuned["text"]
    assert "auto takes fp32" in tuned["text"]
    assert findings(stemwright(*asked))["speed"] == tuned
