"""Several services, by every door: their keys hidden everywhere, their mistakes named."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

import blocks
from blocks.prefect_blocks import Alternatives
from blocks.sections import EngineSettings
from blocks.settings import StemwrightSettings, load_settings
from tasks.errors import SettingsError
from tasks.separation.cloud.providers import provider_names
from tasks.separation.services import CloudApi

KEY = "sk-alternative-0123456789"
LALAL = {"service": "lalal", "api_key": KEY, "limit_minutes": 60}
BOX = {"name": "box", "api_key": "sk-box", "base_url": "https://box.test/v1"}


def by_yaml(tmp_path: Path, key: str = KEY) -> StemwrightSettings:
    file = tmp_path / "stemwright.yaml"
    file.write_text(
        "engine:\n"
        "  alternatives:\n"
        f"    - {{service: lalal, api_key: '{key}', limit_minutes: 60,\n"
        "       service_options: {splitter: orion, usd_per_minute: 0.05}}\n"
        "    - {name: box, api_key: sk-box, base_url: 'https://box.test/v1', max_retries:}\n"
    )
    return load_settings(file, environ={"LALAL_KEY": KEY})


def test_a_service_is_every_provider_that_there_is() -> None:
    offered = CloudApi.model_json_schema()["properties"]["service"]["enum"]
    assert tuple(offered) == provider_names()
    for name in offered:
        assert CloudApi(service=name).service == name


def test_a_published_address_needs_no_base_url() -> None:
    assert CloudApi.model_validate(LALAL).missing == ""
    assert CloudApi().missing == "its api_key is not set"
    ours = CloudApi.model_validate({"api_key": KEY})
    assert ours.missing == "its base_url is not set"
    lalal = load_settings(overrides={"engine": {"service": "lalal", "api_key": KEY}}, environ={})
    assert lalal.cloud_configured


@pytest.mark.parametrize("door", ["yaml", "variable", "environment", "block", "command line"])
def test_alternatives_by_every_door(tmp_path: Path, door: str) -> None:
    options = {"splitter": "orion", "usd_per_minute": "0.05"}
    given = [LALAL | {"service_options": options}, BOX]
    if door == "yaml":
        settings = by_yaml(tmp_path)
    elif door == "variable":
        settings = by_yaml(tmp_path, "${LALAL_KEY}")
    elif door == "environment":
        environ = {"STEMWRIGHT_ENGINE__ALTERNATIVES": json.dumps(given)}
        settings = load_settings(environ=environ)
    elif door == "block":
        made = [blocks.CloudSeparationApi.model_validate(one) for one in given]
        settings = load_settings(environ={}, block=Alternatives(made))
    else:
        settings = load_settings(overrides={"engine": {"alternatives": given}}, environ={})
    first, second = settings.engine.alternatives
    assert (first.label, first.limit_minutes, first.service_options) == ("lalal", 60, options)
    assert first.api_key.get_secret_value() == KEY
    assert (second.label, second.base_url, second.max_retries) == ("box", BOX["base_url"], 20)
    # Nothing else is set up: the alternatives are all that there is.
    assert [service.label for service in settings.services] == ["lalal", "box"]
    assert settings.cloud_configured


def test_no_way_of_printing_shows_an_alternative_s_key(tmp_path: Path) -> None:
    settings = by_yaml(tmp_path)
    for text in (
        repr(settings),
        str(settings.model_dump()),
        settings.model_dump_json(),
        str(settings.sources()),
    ):
        assert KEY not in text
    assert {secret.get_secret_value() for secret in settings.secrets()} == {KEY, "sk-box"}


@pytest.mark.parametrize(
    ("alternative", "sentence"),
    [
        ({"api_keey": KEY}, "engine.alternatives.0.api_keey: unknown key"),
        (LALAL | {"max_retries": KEY}, "engine.alternatives.0.max_retries: must be a whole number"),
        (LALAL | {"service": KEY}, "engine.alternatives.0.service: must be stemwright, lalal"),
        (LALAL | {"api_key": f"{KEY} {KEY}"}, "engine.alternatives.0.api_key: holds a character"),
        (LALAL | {"base_url": f"https://me:{KEY}@host"}, "0.base_url: holds a user name"),
        (LALAL | {"service_options": KEY}, "engine.alternatives.0.service_options: must be JSON"),
        (KEY, "engine.alternatives.0: "),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("door", ["yaml", "environment"])
def test_a_mistake_is_named_and_nothing_quoted(
    tmp_path: Path, door: str, alternative: Any, sentence: str
) -> None:
    file, environ = None, {}
    if door == "yaml":
        file = tmp_path / "c.yaml"
        file.write_text(json.dumps({"engine": {"alternatives": [alternative]}}))
    else:
        environ = {"STEMWRIGHT_ENGINE__ALTERNATIVES": json.dumps([alternative])}
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environ=environ)
    assert sentence in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value, chain=True))


@pytest.mark.parametrize("text", [KEY, f'[{{"api_key": "{KEY}"', f'"{KEY}"', f'{{"a": "{KEY}"}}'])
def test_an_environment_variable_that_is_no_list(text: str) -> None:
    with pytest.raises(SettingsError, match=r"engine\.alternatives: must be") as caught:
        load_settings(environ={"STEMWRIGHT_ENGINE__ALTERNATIVES": text})
    assert KEY not in "".join(traceback.format_exception(caught.value, chain=True))


def test_a_key_whose_variable_is_not_set_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("engine: {alternatives: [{service: lalal, api_key: '${NOT_SET}'}]}")
    settings = load_settings(file, environ={})
    assert settings.engine.alternatives[0].missing == "its api_key is not set"
    assert not settings.cloud_configured


def test_two_services_of_one_name_are_refused() -> None:
    given = {"engine": {"service": "lalal", "api_key": KEY, "alternatives": [LALAL]}}
    with pytest.raises(SettingsError, match="two services have the same name"):
        load_settings(overrides=given, environ={})


def test_a_fixed_cloud_needs_one_service_that_is_set_up(tmp_path: Path) -> None:
    load_settings(overrides={"engine": {"alternatives": [LALAL]}}, environ={}).require_cloud()
    with pytest.raises(SettingsError, match=r"engine\.api_key is not set"):
        load_settings(environ={}).require_cloud()


def test_the_block_has_the_fields_of_a_service() -> None:
    assert set(blocks.CloudSeparationApi.model_fields) == set(CloudApi.model_fields)
    assert set(CloudApi.model_fields) < set(EngineSettings.model_fields)
