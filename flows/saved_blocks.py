"""The flows' parameter for Prefect blocks: picked in the form, or given from Python."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from blocks.prefect_blocks import (
    Alternatives,
    CloudSeparationApi,
    IngestPolicy,
    QualityPolicy,
    SeparationSettings,
    StemLibrary,
)
from blocks.settings_sources import BlockLike
from flows.parameters import Parameters, as_form, storable_text

# What a picker sends: nothing but the id (or the slug) of a saved block. The block's own fields
# are no parameters, which whoever sees a run could read.
_PICKED: dict[str, Any] = {
    "required": ["$ref"],
    "maxProperties": 1,
    "additionalProperties": storable_text(
        type=["string", "object"],
        maxProperties=1,
        propertyNames={"enum": ["block_document_id", "block_document_slug"]},
        additionalProperties=storable_text(),
    ),
}


def _pickers(schema: dict[str, Any]) -> None:
    """A picker for each block, rather than tabs of "a block" and "None" with a picker in one."""
    as_form(schema)
    for field in schema["properties"].values():
        (block,) = (one for one in field.pop("anyOf") if "$ref" in one)
        field.update(block | _PICKED)
        del field["default"]


class SavedBlocks(Parameters):
    """Blocks to take settings from. What the form, the environment or the file sets wins over."""

    model_config = ConfigDict(json_schema_extra=_pickers)

    service: CloudSeparationApi | None = Field(
        default=None, title="Separation service", description="Where it is, and its key."
    )
    second_service: CloudSeparationApi | None = Field(
        default=None,
        title="Second separation service",
        description="Takes over what the first one can't do.",
    )
    library: StemLibrary | None = Field(
        default=None, title="Library", description="Where stems and reports go."
    )
    separation: SeparationSettings | None = Field(
        default=None, title="Separation", description="The model, the stems, their format."
    )
    quality: QualityPolicy | None = Field(
        default=None, title="Quality policy", description="What passes."
    )
    ingest: IngestPolicy | None = Field(
        default=None, title="Ingest policy", description="What may be fetched."
    )

    @model_serializer(mode="wrap")
    def _picked(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The form sends the default back, and the server takes no null where a block is due.
        return {key: value for key, value in serialize(self).items() if value is not None}

    def layers(self) -> list[BlockLike]:
        """What was picked, for `load_settings`."""
        second = Alternatives([self.second_service]) if self.second_service else None
        found = (self.service, second, self.library, self.separation, self.quality, self.ingest)
        return [block for block in found if block is not None]
