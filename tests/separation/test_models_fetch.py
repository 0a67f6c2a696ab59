"""Fetching weights from a hub on a real socket: resumed, checked, and plain words on failure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.separation.loopback_hub import Asked, LoopbackHub, loopback_hub
from tests.tiny_model import make_tiny_model

WEIGHTS = "955717e8.safetensors"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """The repository of `htdemucs`, with small weights of that name."""
    folder = make_tiny_model(tmp_path / "repo", "htdemucs")
    (folder / "htdemucs0000.safetensors").rename(folder / WEIGHTS)
    (folder / "htdemucs.yaml").write_text("models: ['955717e8']\n")
    return folder


@pytest.fixture
def hub(repo: Path) -> Iterator[LoopbackHub]:
    with loopback_hub({"adefossez/HTDemucs": repo}) as server:
        yield server


def test_what_is_fetched_is_found_again_and_not_fetched_again(
    hub: LoopbackHub, repo: Path, tmp_path: Path
) -> None:
    done = hub.command("models", "fetch", "htdemucs", "--json", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    spec = json.loads(done.stdout)
    assert spec["weights_sha256"] == hashlib.sha256((repo / WEIGHTS).read_bytes()).hexdigest()
    assert spec["origin"] == "hub"
    assert hub.asked == [Asked("htdemucs.yaml", 0), Asked(WEIGHTS, 0)]
    assert WEIGHTS in done.stderr  # its bar

    again = hub.command("models", "fetch", "htdemucs", cache=tmp_path)
    assert again.returncode == 0
    assert len(hub.asked) == 2
    sound = hub.command("models", "verify", "htdemucs", cache=tmp_path)
    assert sound.returncode == 0, sound.stdout + sound.stderr


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.break_after[WEIGHTS] = [300_000, 200_000]
    done = hub.command("models", "fetch", "htdemucs", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [ask.start for ask in hub.asked if ask.name == WEIGHTS] == [0, 300_000, 500_000]


def test_the_next_command_goes_on_where_the_last_one_stopped(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.break_after[WEIGHTS] = [300_000, 0, 0, 0, 0]
    broken = hub.command("models", "fetch", "htdemucs", "--json", cache=tmp_path)
    assert broken.returncode == 1
    said = json.loads(broken.stdout)["error"]
    assert "broke off at 0.3 MB" in said["message"]
    assert "goes on where it stopped" in said["remedy"]

    hub.asked.clear()
    hub.break_after.clear()
    done = hub.command("models", "fetch", "htdemucs", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert hub.asked == [Asked(WEIGHTS, 300_000)]


def test_a_hub_that_knows_no_ranges_sends_it_all_again(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.break_after[WEIGHTS] = [300_000]
    hub.ignores_ranges = True
    done = hub.command("models", "fetch", "htdemucs", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert hub.command("models", "verify", "htdemucs", cache=tmp_path).returncode == 0


def test_bytes_that_do_not_match_their_digest_are_thrown_away(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.spoil.add(WEIGHTS)
    done = hub.command("models", "fetch", "htdemucs", "--json", cache=tmp_path)
    assert done.returncode == 2
    said = json.loads(done.stdout)["error"]
    assert said["type"] == "WeightsRefused"
    assert f"{WEIGHTS} came with other bytes" in said["message"]

    hub.spoil.clear()
    hub.asked.clear()
    assert hub.command("models", "fetch", "htdemucs", cache=tmp_path).returncode == 0
    assert hub.asked == [Asked(WEIGHTS, 0)]  # nothing of the spoilt bytes was kept


def test_a_busy_hub_is_asked_again(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.refuse = [503, 429]
    done = hub.command("models", "fetch", "htdemucs", cache=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("model", "file"), [("htdemucs", WEIGHTS), ("mdx", "mdx.yaml")])
def test_a_file_that_the_hub_has_not_is_named(
    hub: LoopbackHub, repo: Path, tmp_path: Path, model: str, file: str
) -> None:
    (repo / WEIGHTS).unlink()
    done = hub.command("models", "fetch", model, "--json", cache=tmp_path)
    assert done.returncode == 1
    assert f"has no file {file}" in json.loads(done.stdout)["error"]["message"]


def test_a_hub_that_is_away_is_told_of_with_the_files_to_copy(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    away = hub.command(
        "models", "fetch", "htdemucs", "--json", cache=tmp_path, HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert away.returncode == 2
    said = json.loads(away.stdout)["error"]
    assert said["type"] == "WeightsMissing"
    assert f"htdemucs.yaml, {WEIGHTS}" in said["message"]
    assert "STEMWRIGHT_MODELS" in said["remedy"]
    assert hub.asked == []


def test_a_plan_needs_no_weights_and_fetches_none(hub: LoopbackHub, tmp_path: Path) -> None:
    song = tmp_path / "song.flac"
    soundfile.write(song, np.zeros((44_100, 2)), 44_100)
    library = str(tmp_path / "library")
    done = hub.command("plan", str(song), "--library", library, "--json", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["to_separate"], plan["model"], plan["separation_id"]) == (1, "htdemucs", "")
    assert "models fetch htdemucs" in plan["to_fetch"]
    assert hub.asked == []
