"""What a Prefect server refuses before it stores a run, by the schemas that we deploy."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema.exceptions import best_match
from prefect.utilities.schema_tools.validation import (
    ValidationError,
    preprocess_schema,
    validate,
)

from flows.review_catalog import review_catalog
from flows.separate_catalog import separate_catalog
from flows.separate_track import separate_track
from tests.flows.wrong_parameters import wrong_bodies

FLOWS: list[tuple[Any, dict[str, Any]]] = [
    (separate_track, {"track": {"source": "song.flac"}}),
    (separate_catalog, {"tracks": {"sources": ["catalog"]}}),
    (review_catalog, {}),
]
each_flow = pytest.mark.parametrize(
    ("flow", "good"), FLOWS, ids=lambda part: getattr(part, "name", "")
)


def deployed(flow: Any) -> dict[str, Any]:
    """As `deployments.deploy` leaves it on the server."""
    return {**flow.parameters.model_dump_for_openapi(), "additionalProperties": False}


@each_flow
def test_a_wrong_value_is_refused_in_every_field(flow: Any, good: dict[str, Any]) -> None:
    schema = preprocess_schema(deployed(flow))
    passed = []
    for wrong in wrong_bodies(schema, good):
        refused = best_match(validate(wrong.body, schema, preprocess=False))
        if refused is None:
            passed.append(str(wrong))
        else:
            # The server names the field, and sends what it says in UTF-8.
            said = f"{refused.json_path} {refused.message}"
            assert wrong.where[0] in said
            assert said.encode()
    assert passed == []


@each_flow
def test_what_the_form_sends_is_taken(flow: Any, good: dict[str, Any]) -> None:
    schema = deployed(flow)
    defaults = {
        group: field["default"]
        for group, field in schema["properties"].items()
        if "default" in field
    }
    validate(defaults | good, schema, raise_on_error=True)


@pytest.mark.parametrize(
    "name", ["Amélie 🎵.flac", "line\nbreak.flac", "\x1b[31mred.flac", "a" * 255, "\U0010ffff"]
)
def test_any_other_name_is_a_parameter(name: str) -> None:
    body = {"track": {"source": name, "title": name}}
    validate(body, deployed(separate_track), raise_on_error=True)


@pytest.mark.parametrize(
    "picked", ["4e0b", {"block_document_id": "4e0b"}, {"block_document_slug": "stem-library/prod"}]
)
def test_a_block_is_picked_by_reference_alone(picked: Any) -> None:
    schema = deployed(separate_track)

    def chosen(library: dict[str, Any]) -> dict[str, Any]:
        return {"track": {"source": "a"}, "blocks": {"library": library}}

    validate(chosen({"$ref": picked}), schema, raise_on_error=True)
    for inline in ({"library": "./here"}, {"$ref": picked, "library": "./here"}):
        with pytest.raises(ValidationError, match=r"blocks\.library"):
            validate(chosen(inline), schema, raise_on_error=True)


@pytest.mark.parametrize("since", ["2026-11-01", "2026-11-01T07:00:00Z", "2026-11-01 07:00+01:00"])
def test_a_date_is_a_parameter_and_anything_else_is_not(since: str) -> None:
    schema = deployed(review_catalog)
    validate({"period": {"since": since}}, schema, raise_on_error=True)
    for wrong in (f"{since}!", "yesterday", "2026-13-01", "0001-01-01"):
        with pytest.raises(ValidationError, match=r"period\.since"):
            validate({"period": {"since": wrong}}, schema, raise_on_error=True)
