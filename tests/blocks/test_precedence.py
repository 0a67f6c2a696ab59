"""Command line, environment, file, Block, default: each wins over all that follow it."""

from __future__ import annotations

import logging
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from blocks import prefect_blocks
from blocks.prefect_blocks import CloudSeparationApi
from blocks.settings import StemwrightSettings, load_settings
from tasks.errors import SettingsError

DOORS = ("command line", "environment", "file", "block")
VALUES = {"command line": 11, "environment": 12, "file": 13, "block": 14}


@pytest.fixture
def saved_block(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only Prefect's server is stood in for here; test_prefect_blocks.py has the real one.
    api = CloudSeparationApi(max_retries=VALUES["block"])
    monkeypatch.setattr(prefect_blocks, "load_block", lambda name: api)


def _load(tmp_path: Path, used: tuple[str, ...]) -> StemwrightSettings:
    file = tmp_path / "stemwright.yaml"
    file.write_text(f"engine:\n  max_retries: {VALUES['file']}\n")
    arguments: dict[str, Any] = {"environ": {}}
    if "command line" in used:
        arguments["overrides"] = {"engine": {"max_retries": VALUES["command line"]}}
    if "environment" in used:
        arguments["environ"] = {"STEMWRIGHT_ENGINE__MAX_RETRIES": str(VALUES["environment"])}
    if "file" in used:
        arguments["config"] = file
    if "block" in used:
        arguments["block"] = "cloud-separation-api/prod"
    return load_settings(**arguments)


@pytest.mark.usefixtures("saved_block")
@pytest.mark.parametrize(("stronger", "weaker"), list(combinations(DOORS, 2)))
def test_the_stronger_door_wins(tmp_path: Path, stronger: str, weaker: str) -> None:
    settings = _load(tmp_path, (stronger, weaker))
    assert settings.engine.max_retries == VALUES[stronger]


@pytest.mark.usefixtures("saved_block")
@pytest.mark.parametrize("door_used", DOORS)
def test_any_door_wins_over_the_default_and_is_named(tmp_path: Path, door_used: str) -> None:
    settings = _load(tmp_path, (door_used,))
    assert settings.engine.max_retries == VALUES[door_used]
    assert settings.sources() == {
        "engine.max_retries": {
            "command line": "the command line",
            "environment": "the environment variable STEMWRIGHT_ENGINE__MAX_RETRIES",
            "file": str(tmp_path / "stemwright.yaml"),
            "block": "the Prefect block cloud-separation-api/prod",
        }[door_used]
    }


def test_nothing_given_is_all_defaults() -> None:
    settings = load_settings(environ={})
    assert settings == StemwrightSettings()
    assert settings.sources() == {}


def test_doors_merge_key_by_key(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("engine: {provider: local_cpu, max_retries: 5}\n")
    settings = load_settings(file, {"engine": {"provider": "auto", "workload": None}}, environ={})
    assert (settings.engine.provider, settings.engine.max_retries) == ("auto", 5)


class TestFiles:
    def test_the_usual_file_is_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("stemwright.yaml").write_text("library: ./stems\n")
        settings = load_settings(environ={})
        assert settings.library == "./stems"
        assert settings.sources() == {"library": "stemwright.yaml"}

    def test_a_named_file_stands_in_its_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("stemwright.yaml").write_text("library: ./stems\nrun: {jobs: 3}\n")
        Path("other.yaml").write_text("library: ./other\n")
        settings = load_settings(Path("other.yaml"), environ={})
        assert (settings.library, settings.run.jobs) == ("./other", 0)

    def test_a_named_file_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"no configuration file at .*gone\.yaml"):
            load_settings(tmp_path / "gone.yaml", environ={})

    @pytest.mark.parametrize("text", ["", "# nothing\n", "engine:\n", "engine:\n  max_retries:\n"])
    def test_what_is_left_blank_is_not_set(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "blank.yaml"
        file.write_text(text)
        assert load_settings(file, environ={}).sources() == {}


class TestEnvironment:
    @pytest.mark.parametrize(
        ("name", "text", "key", "value"),
        [
            ("STEMWRIGHT_LIBRARY", "s3://stems", "library", "s3://stems"),
            ("STEMWRIGHT_MODELS", "/models", "engine.models_dir", "/models"),
            ("STEMWRIGHT_ENGINE__PROVIDER", "local_gpu", "engine.provider", "local_gpu"),
            ("STEMWRIGHT_AUDIO__BIT_DEPTH", "16", "audio.bit_depth", "16"),
            ("STEMWRIGHT_GPU__AUTO_DETECT", "no", "gpu.auto_detect", False),
            ("STEMWRIGHT_SEPARATION__STEMS", "vocals, drums", "separation.stems", None),
            ("STEMWRIGHT_QUALITY__THRESHOLDS__REVIEW", "0.7", "quality.thresholds.review", 0.7),
        ],
    )
    def test_a_variable_sets_its_key(self, name: str, text: str, key: str, value: Any) -> None:
        settings = load_settings(environ={name: text})
        found: Any = settings
        for part in key.split("."):
            found = getattr(found, part)
        assert found == (("vocals", "drums") if value is None else value)
        assert settings.sources()[key] == f"the environment variable {name}"

    def test_the_full_name_wins_over_the_short_one(self) -> None:
        environ = {"STEMWRIGHT_ENGINE__MODELS_DIR": "/full", "STEMWRIGHT_MODELS": "/short"}
        assert load_settings(environ=environ).models_dir == Path("/full")

    def test_an_empty_variable_is_not_set(self) -> None:
        assert load_settings(environ={"STEMWRIGHT_LIBRARY": ""}).sources() == {}

    def test_a_variable_that_sets_nothing_is_warned_of(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            load_settings(environ={"STEMWRIGHT_ENGINE__PROVDER": "cloud", "STEMWRIGHT_MODELS": "m"})
        assert [record.getMessage() for record in caplog.records] == [
            "STEMWRIGHT_ENGINE__PROVDER sets nothing; did you mean STEMWRIGHT_ENGINE__PROVIDER?"
        ]

    def test_this_process_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STEMWRIGHT_RUN__JOBS", "7")
        assert load_settings().run.jobs == 7


def test_the_stems_depth_follows_the_mixtures_unless_said() -> None:
    def depth(overrides: dict[str, Any]) -> str:
        return load_settings(overrides=overrides, environ={}).separation.bit_depth

    assert depth({}) == "24"
    assert depth({"audio": {"bit_depth": 16}}) == "16"
    assert depth({"audio": {"bit_depth": 16}, "separation": {"bit_depth": 24}}) == "24"
    assert depth({"audio": {"bit_depth": "32f"}, "separation": {"format": "wav"}}) == "32f"
    # FLAC holds no floats: the stems stay at the deepest that it does hold.
    assert depth({"audio": {"bit_depth": "32f"}}) == "24"
    assert depth({"separation": {"bit_depth": 16}}) == "16"


def test_a_depth_that_follows_says_where_it_comes_from() -> None:
    settings = load_settings(environ={"STEMWRIGHT_AUDIO__BIT_DEPTH": "16"})
    assert settings.sources()["separation.bit_depth"].endswith("STEMWRIGHT_AUDIO__BIT_DEPTH")


def test_offline_means_fetching_too() -> None:
    assert not load_settings(environ={}).ingest_policy().offline
    assert load_settings(environ={"STEMWRIGHT_ENGINE__OFFLINE": "1"}).ingest_policy().offline


def test_durations_of_the_audio_policy_are_those_of_ingest() -> None:
    given = {"ingest": {"min_duration_s": 2, "max_duration_s": 60}}
    policy = load_settings(overrides=given, environ={}).audio_policy()
    assert (policy.min_duration_s, policy.max_duration_s) == (2, 60)


@pytest.mark.parametrize(
    ("key", "url", "configured"),
    [
        ("", "", False),
        ("k-123456", "", False),
        ("", "https://stems.test/v1", False),
        ("k-123456", "https://api.example.com/v1/", False),
        ("k-123456", "https://stems.test/v1", True),
        # `stemwright endpoint` needs no key on the loopback, which nobody else can reach.
        ("", "http://127.0.0.1:8765/v1", True),
        ("", "http://localhost:8765/v1", True),
        ("", "http://[::1]:8765/v1", True),
        ("", "http://10.0.0.1:8765/v1", False),
    ],
)
def test_a_service_is_configured_by_a_key_and_an_address(
    key: str, url: str, configured: bool
) -> None:
    settings = load_settings(overrides={"engine": {"api_key": key, "base_url": url}}, environ={})
    assert settings.cloud_configured is configured
    if configured:
        settings.require_cloud()
    else:
        with pytest.raises(SettingsError):
            settings.require_cloud()


def test_retries_are_set_stage_by_stage() -> None:
    run = load_settings(overrides={"run": {"separate_retries": 7}}, environ={}).run
    assert (run.retries("separate"), run.retries("validate")) == (7, 1)
