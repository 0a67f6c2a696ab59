"""The article's template loads unchanged, and each of its keys does what its name says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.settings import load_settings
from tasks.errors import SettingsError

HERE = Path(__file__).parent
TEMPLATE = HERE / "separation_pipeline_config.yaml"
AS_SCRAPED = HERE / "article_template.txt"  # the page's plain text, without its indentation
KEY = "sk-article-0123456789"


def test_it_is_the_articles_own_text() -> None:
    lines = [line.strip() for line in TEMPLATE.read_text().splitlines()]
    assert lines == AS_SCRAPED.read_text().splitlines()


@pytest.mark.parametrize("file", [TEMPLATE, AS_SCRAPED], ids=["indented", "as scraped"])
def test_every_value_arrives(file: Path) -> None:
    settings = load_settings(file, environ={"SEPARATION_API_KEY": KEY})

    assert settings.engine.provider == "cloud"
    assert settings.engine.api_key.get_secret_value() == KEY
    assert settings.engine.base_url == "https://api.example.com/v1"
    assert settings.engine.max_retries == 20
    assert settings.engine.backoff_multiplier == 1.5
    assert settings.engine.max_backoff_seconds == 30
    assert settings.audio.input_format == "wav"
    assert settings.audio.sample_rate == 44_100
    assert settings.audio.bit_depth == "16"
    assert settings.audio.normalize_before_submit is True
    assert settings.gpu.auto_detect is True
    assert settings.gpu.clear_cache_between_jobs is True
    assert settings.gpu.fallback_to_cloud_on_oom is True
    assert settings.logging.level == "INFO"
    assert settings.logging.log_retries is True
    assert settings.logging.log_vram_usage is True


def test_its_keys_are_the_only_ones_set() -> None:
    tree = yaml.safe_load(TEMPLATE.read_text())
    keys = {f"{section}.{key}" for section, values in tree.items() for key in values}
    settings = load_settings(TEMPLATE, environ={"SEPARATION_API_KEY": KEY})
    assert set(settings.sources()) == keys | {"separation.bit_depth"}


@pytest.mark.parametrize(
    ("key", "value", "parsed"),
    [
        ("engine.provider", "local_gpu", "local_gpu"),
        ("engine.provider", "auto", "auto"),
        ("engine.base_url", "http://127.0.0.1:8765/", "http://127.0.0.1:8765"),
        ("engine.max_retries", 3, 3),
        ("engine.backoff_multiplier", 2, 2.0),
        ("engine.max_backoff_seconds", 5, 5.0),
        ("audio.input_format", "flac", "flac"),
        ("audio.sample_rate", 48_000, 48_000),
        ("audio.bit_depth", 24, "24"),
        ("audio.bit_depth", "32f", "32f"),
        ("audio.normalize_before_submit", False, False),
        ("gpu.auto_detect", False, False),
        ("gpu.clear_cache_between_jobs", False, False),
        ("gpu.fallback_to_cloud_on_oom", False, False),
        ("logging.level", "debug", "DEBUG"),
        ("logging.log_retries", False, False),
        ("logging.log_vram_usage", False, False),
    ],
)
def test_a_changed_key_changes_its_setting(
    tmp_path: Path, key: str, value: Any, parsed: Any
) -> None:
    section, name = key.split(".")
    tree = yaml.safe_load(TEMPLATE.read_text())
    tree[section][name] = value
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump(tree))
    settings = load_settings(file, environ={"SEPARATION_API_KEY": KEY})
    assert getattr(getattr(settings, section), name) == parsed


def test_its_depth_and_rate_reach_the_mixture_and_the_stems() -> None:
    settings = load_settings(TEMPLATE, environ={})
    assert settings.audio_policy().bit_depth == "16"
    assert settings.audio_policy().sample_rate_hz == 44_100
    assert settings.separation.bit_depth == "16"


def test_its_upload_format_is_not_the_stems_format() -> None:
    assert load_settings(TEMPLATE, environ={}).separation.format == "flac"


def test_its_example_address_is_no_service() -> None:
    settings = load_settings(TEMPLATE, environ={"SEPARATION_API_KEY": KEY})
    assert not settings.cloud_configured
    with pytest.raises(SettingsError, match="is the article's example"):
        settings.require_cloud()


def test_it_loads_without_its_variable_and_says_so_when_the_key_is_needed() -> None:
    settings = load_settings(TEMPLATE, environ={})
    assert settings.engine.api_key.get_secret_value() == ""
    with pytest.raises(SettingsError, match="SEPARATION_API_KEY is not set"):
        settings.require_cloud()
