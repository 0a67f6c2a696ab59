"""Blocks as parameters of the flows: picked in the form (by reference), or given from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.utilities.callables import parameter_schema

import blocks
from flows.parameters import CatalogSources, RunControl, Separation
from flows.runner.summary import RunSummary
from flows.saved_blocks import SavedBlocks
from flows.separate_catalog import separate_catalog
from flows.separate_track import separate_track
from tests.flows.studio import finished_in, report_in, write_config, write_track
from tests.separation.loopback import KEY, serve

KINDS = {
    "service": "cloud-separation-api",
    "second_service": "cloud-separation-api",
    "library": "stem-library",
    "separation": "separation-settings",
    "quality": "quality-policy",
    "ingest": "ingest-policy",
}


@pytest.fixture
def config(tmp_path: Path, models_dir: Path) -> Path:
    """Quick runs through a service that the settings don't name."""
    engine = {"provider": "cloud", "max_backoff_seconds": 0.05}
    return write_config(tmp_path / "c.yaml", models_dir, engine=engine)


def saved(name: str, **kinds: Any) -> dict[str, Any]:
    """Save blocks; the parameter that the form sends for them."""
    return {
        field: {"$ref": {"block_document_id": str(block.save(name, overwrite=True))}}
        for field, block in kinds.items()
    }


@pytest.mark.parametrize("flow", [separate_track, separate_catalog], ids=lambda flow: flow.name)
def test_the_form_offers_a_picker_for_each_block(flow: Any) -> None:
    schema = parameter_schema(flow).model_dump()
    group = schema["definitions"]["SavedBlocks"]["properties"]
    assert list(group) == list(KINDS)
    for field, slug in KINDS.items():
        definition = schema["definitions"][group[field]["$ref"].rsplit("/", 1)[1]]
        assert definition["block_type_slug"] == slug
        assert group[field]["description"].endswith(".")


@pytest.mark.usefixtures("prefect_server")
def test_a_deployment_s_run_with_blocks_by_reference(tmp_path: Path, config: Path) -> None:
    source = write_track(tmp_path / "a.flac", 1)
    with serve() as service:
        picked = saved(
            "by-reference",
            service=blocks.CloudSeparationApi(api_key=KEY, base_url=service.base_url),
            library=blocks.StemLibrary(library=str(tmp_path / "from-block")),
            separation=blocks.SeparationSettings(stems=("vocals", "bass")),
            quality=blocks.QualityPolicy.model_validate({"thresholds": {"fail": 0.0}}),
            ingest=blocks.IngestPolicy(max_duration_s=60.0),
        )
        parameters = {
            "tracks": {"sources": [str(source)]},
            "control": {"config": str(config)},
            "blocks": picked,
        }
        run = _accepted_by_the_server(parameters)
        assert KEY not in json.dumps(run.parameters)
        state = separate_catalog(**run.parameters, return_state=True)  # as a worker calls it
    summary = state.result()
    assert isinstance(summary, RunSummary)
    (place,) = finished_in(tmp_path / "from-block")
    report = report_in(tmp_path / "from-block" / place)
    assert (report.stem_set.engine, report.stem_set.provider) == ("cloud", "stemwright")
    assert report.settings.stems == ("vocals", "bass")
    assert set(report.stem_set.stems) == {"vocals", "bass"}
    assert report.quality.verdict != "fail"


def _accepted_by_the_server(parameters: dict[str, Any]) -> Any:
    """A run of a deployment that enforces its schema, as the form's Submit button makes it."""
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(separate_catalog)
        deployment = client.create_deployment(
            flow_id,
            "with-blocks",
            parameter_openapi_schema=parameter_schema(separate_catalog).model_dump(),
            enforce_parameter_schema=True,
        )
        return client.create_flow_run_from_deployment(deployment, parameters=parameters)


@pytest.mark.usefixtures("prefect_server")
def test_a_misspelt_block_is_refused_before_there_is_a_run() -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    with pytest.raises(PrefectHTTPStatusError, match="409"):
        _accepted_by_the_server({"tracks": {"sources": ["a"]}, "blocks": {"servise": None}})


@pytest.mark.usefixtures("prefect_server")
def test_blocks_from_python_and_what_is_set_elsewhere_wins_over_them(
    tmp_path: Path, config: Path
) -> None:
    source = write_track(tmp_path / "a.flac", 2)
    with serve() as service:
        state = separate_catalog(
            CatalogSources(sources=[str(source)]),
            Separation(library=str(tmp_path / "from-form")),
            RunControl(config=str(config)),
            SavedBlocks(
                service=blocks.CloudSeparationApi(api_key=KEY, base_url=service.base_url),
                second_service=blocks.CloudSeparationApi(
                    name="spare", api_key=KEY, base_url="http://127.0.0.1:9/v1"
                ),
                library=blocks.StemLibrary(library=str(tmp_path / "from-block")),
            ),
            return_state=True,
        )
    assert state.result().done == 1
    assert len(finished_in(tmp_path / "from-form")) == 1
    assert not (tmp_path / "from-block").exists()
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(state.state_details.flow_run_id)
    assert KEY not in json.dumps(run.parameters)
