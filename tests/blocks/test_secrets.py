"""A key is seen by nobody: not in prints, dumps, errors or tracebacks."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from blocks.settings import StemwrightSettings, load_settings
from tasks.errors import SettingsError

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def settings() -> StemwrightSettings:
    return load_settings(overrides={"engine": {"api_key": KEY}}, environ={})


def test_no_way_of_printing_shows_it(settings: StemwrightSettings) -> None:
    assert settings.engine.api_key.get_secret_value() == KEY
    for shown in (
        repr(settings),
        str(settings),
        f"{settings.engine}",
        str(settings.model_dump()),
        settings.model_dump_json(),
        str(settings.sources()),
    ):
        assert KEY not in shown


@pytest.mark.parametrize(
    "text",
    [
        f"engine: {{api_key: {{a: {KEY}}}}}",
        f"engine: {{api_key: [{KEY}]}}",
        f"engine: {{api_key: '{KEY} {KEY}'}}",
        f"engine: {{api_key: '${{{KEY}'}}",
        f"engine: {{api_keey: {KEY}}}",
        f"engine: {KEY}",
        f"engine: {{base_url: 'https://me:{KEY}@host'}}",
        "engine: {max_retries: '${MY_KEY}'}",
        "engine: {base_url: 'ftp://${MY_KEY}'}",
        "separation: {stems: [1, '${MY_KEY}']}",
        f"engine: {{api_key: {KEY}, max_retries: x}}",
        f"engine: {{api_key: {KEY}}}\nseparation: {{bit_depth: 32f}}",
        f"engine: {{api_key: '{KEY}'",
        f"engine: {{api_key: *{KEY}}}",
        f"engine: {{api_key: !{KEY} x}}",
        f"engine: {{api_key: {KEY}: {KEY}}}",
    ],
)
def test_no_error_shows_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "stemwright.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environ={"MY_KEY": KEY})
    error = caught.value
    assert KEY not in str(error)
    # The whole chain: a library's error that hangs on ours would be printed with it.
    assert KEY not in "".join(traceback.format_exception(error, chain=True))
    assert error.__context__ is None


def test_a_key_out_of_the_environment_is_not_shown_either() -> None:
    with pytest.raises(SettingsError, match=r"engine\.api_key: holds a character") as caught:
        load_settings(environ={"STEMWRIGHT_ENGINE__API_KEY": f"{KEY}\nHost: evil"})
    assert KEY not in str(caught.value)


def test_a_keys_surrounding_space_is_not_part_of_it() -> None:
    settings = load_settings(environ={"STEMWRIGHT_ENGINE__API_KEY": f" {KEY}\n"})
    assert settings.engine.api_key.get_secret_value() == KEY
