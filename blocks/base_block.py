"""The Prefect side: what our Blocks share. Imports Prefect."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from prefect.blocks.core import Block
from pydantic import BaseModel, ConfigDict, model_validator


class SettingsBlock(Block):
    """A Block whose fields are those of its first base, a section of the settings."""

    model_config = ConfigDict(extra="forbid", frozen=False, hide_input_in_errors=True)

    _section: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _drop_the_slug(cls, values: Any) -> Any:
        # Prefect's own bookkeeping in a saved document; it has checked it by now.
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if key != "block_type_slug"}
        return values

    @classmethod
    def get_code_example(cls) -> str:
        """Return how to load one, as Prefect's UI shows it."""
        name = cls.__name__
        return f'```python\nfrom blocks import {name}\n\nblock = {name}.load("BLOCK_NAME")\n```'

    @property
    def full_name(self) -> str:
        """`slug/name` of a saved one; the slug alone of one that was made in Python."""
        slug = self.get_block_type_slug()
        return f"{slug}/{self._block_document_name}" if self._block_document_name else slug

    def to_settings(self) -> dict[str, Any]:
        """Return what it sets, nested as the YAML is; a field at its default sets nothing."""
        section = cast(type[BaseModel], type(self).__bases__[0])
        values = {
            name: value.model_dump() if isinstance(value, BaseModel) else value
            for name, field in section.model_fields.items()
            if (value := getattr(self, name)) != field.default
        }
        return {self._section: values} if self._section else values
