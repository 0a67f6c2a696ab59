"""The five Blocks on a real Prefect server: registered, saved, loaded, their secrets hidden."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest

import blocks
from blocks.settings import StemwrightSettings, load_settings
from tasks.errors import SettingsError

KEY = "sk-very-secret-0123456789"

GIVEN: dict[str, tuple[str, dict[str, Any]]] = {
    "CloudSeparationApi": (
        "engine",
        {"api_key": KEY, "base_url": "https://stems.test/v1", "max_retries": 4},
    ),
    "StemLibrary": ("", {"library": "s3://bucket/stems"}),
    "SeparationSettings": ("separation", {"model": "htdemucs_ft", "stems": ("vocals", "bass")}),
    "QualityPolicy": ("quality", {"thresholds": {"review": 0.7, "fail": 0.2}}),
    "IngestPolicy": ("ingest", {"max_duration_s": 900.0, "allow_private_addresses": True}),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_block_has_the_fields_of_its_section(name: str) -> None:
    kind, section = getattr(blocks, name), GIVEN[name][0]
    fields = StemwrightSettings.model_fields
    known = fields[section].annotation.model_fields if section else fields  # type: ignore[union-attr]
    for key, field in kind.model_fields.items():
        assert (field.title, field.description, field.default) == (
            known[key].title,
            known[key].description,
            known[key].default,
        )


@pytest.mark.parametrize("name", GIVEN)
def test_a_block_is_documented(name: str) -> None:
    kind = getattr(blocks, name)
    assert kind.get_description().endswith(".")
    assert f"from blocks import {name}" in kind.get_code_example()
    assert f'{name}.load("BLOCK_NAME")' in kind.get_code_example()
    assert kind.get_description() in " ".join(kind.__doc__.split())
    # There is no page of ours on the web, and Prefect's own says nothing of these.
    assert kind._documentation_url is None
    assert kind._logo_url is None  # a remote one is a broken picture offline
    assert all(field.description.endswith(".") for field in kind.model_fields.values())


@pytest.mark.parametrize("name", GIVEN)
def test_a_block_refuses_keys_that_it_does_not_know(name: str) -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        getattr(blocks, name)(bogus=1)


@pytest.mark.parametrize("name", GIVEN)
def test_a_block_says_the_same_as_the_yaml(name: str) -> None:
    section, given = GIVEN[name]
    by_block = load_settings(overrides=getattr(blocks, name)(**given).to_settings(), environ={})
    by_yaml = load_settings(overrides={section: given} if section else given, environ={})
    assert by_block == by_yaml


@pytest.mark.parametrize("name", ["prod", "secret/prod", "cloud-separation-api/", ""])
def test_a_name_that_is_no_block_of_ours(name: str) -> None:
    with pytest.raises(SettingsError, match="names no Block of ours"):
        load_settings(environ={}, block=name)


def test_prefect_block_register_finds_all_five(prefect_server: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "block", "register", "-m", "blocks"],
        env=os.environ | {"PREFECT_API_URL": prefect_server, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Successfully registered 5 blocks" in done.stdout
    for name in GIVEN:
        assert getattr(blocks, name).get_block_type_name() in done.stdout


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("name", GIVEN)
def test_a_saved_block_sets_its_section(name: str) -> None:
    section, given = GIVEN[name]
    kind = getattr(blocks, name)
    kind(**given).save("prod", overwrite=True)
    slug = f"{kind.get_block_type_slug()}/prod"

    settings = load_settings(environ={}, block=slug)

    by_yaml = load_settings(overrides={section: given} if section else given, environ={})
    assert settings.model_dump() == by_yaml.model_dump()
    assert set(settings.sources().values()) == {f"the Prefect block {slug}"}


@pytest.mark.usefixtures("prefect_server")
def test_several_blocks_set_their_sections_each() -> None:
    blocks.StemLibrary(library="/a").save("two", overwrite=True)
    blocks.IngestPolicy(max_retries=9).save("two", overwrite=True)
    settings = load_settings(environ={}, block=["stem-library/two", "ingest-policy/two"])
    assert (settings.library, settings.ingest.max_retries) == ("/a", 9)


@pytest.mark.usefixtures("prefect_server")
def test_a_block_loads_inside_a_running_event_loop() -> None:
    blocks.StemLibrary(library="/looped").save("looped", overwrite=True)

    async def inside() -> str:
        return load_settings(environ={}, block="stem-library/looped").library

    assert asyncio.run(inside()) == "/looped"


@pytest.mark.usefixtures("prefect_server")
def test_the_api_shows_no_key() -> None:
    import httpx
    from prefect.settings import PREFECT_API_URL

    api = blocks.CloudSeparationApi.model_validate({"api_key": KEY})
    api.save("hidden", overwrite=True)
    answer = httpx.get(
        f"{PREFECT_API_URL.value()}/block_types/slug/cloud-separation-api"
        "/block_documents/name/hidden"
    )
    assert answer.json()["data"]["api_key"] == "********"
    assert KEY not in answer.text
    assert KEY not in repr(api) + str(api) + api.model_dump_json()


@pytest.mark.usefixtures("prefect_server")
def test_a_block_that_was_never_saved() -> None:
    with pytest.raises(SettingsError, match="there is no Prefect block quality-policy/nowhere"):
        load_settings(environ={}, block="quality-policy/nowhere")


@pytest.mark.usefixtures("prefect_server")
def test_a_block_is_a_flows_parameter() -> None:
    from prefect import flow
    from prefect.utilities.callables import parameter_schema

    @flow(log_prints=False)
    def uses(policy: blocks.QualityPolicy) -> float:
        return policy.thresholds.review

    schema = json.dumps(parameter_schema(uses).model_dump())
    assert "quality-policy" in schema
    assert uses(blocks.QualityPolicy.model_validate({"thresholds": {"review": 0.9}})) == 0.9
