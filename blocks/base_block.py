"""The Prefect side: what our Blocks share, and loading one by its name. Imports Prefect."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from prefect.blocks.core import Block
from pydantic import BaseModel, ConfigDict, model_validator

from tasks.errors import SettingsError


class SettingsBlock(Block):
    """A Block whose fields are a section of the settings."""

    model_config = ConfigDict(extra="forbid", frozen=False, hide_input_in_errors=True)

    _section: ClassVar[str] = ""
    _fields_of: ClassVar[type[BaseModel]]

    @model_validator(mode="before")
    @classmethod
    def _drop_the_slug(cls, values: Any) -> Any:
        # Prefect's own bookkeeping in a saved document; it has checked it by now.
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if key != "block_type_slug"}
        return values

    @property
    def full_name(self) -> str:
        """`slug/name` of a saved one; the slug alone of one that was made in Python."""
        slug = self.get_block_type_slug()
        return f"{slug}/{self._block_document_name}" if self._block_document_name else slug

    def to_settings(self) -> dict[str, Any]:
        """What it sets, nested as the YAML is; a field at its default sets nothing."""
        values = {
            name: value.model_dump() if isinstance(value, BaseModel) else value
            for name, field in self._fields_of.model_fields.items()
            if (value := getattr(self, name)) != field.default
        }
        return {self._section: values} if self._section else values


def load_block(name: str) -> SettingsBlock:
    """A saved Block by `slug/name`.

    Raises:
        SettingsError: Not one of ours, no such document, or Prefect's API can't be reached.
    """
    import blocks

    kinds: dict[str, type[SettingsBlock]] = {
        kind.get_block_type_slug(): kind
        for kind in map(blocks.__getattr__, blocks.__all__)
        if isinstance(kind, type) and issubclass(kind, SettingsBlock)
    }
    slug, _, document = name.partition("/")
    if slug not in kinds or not document:
        raise SettingsError(
            f"{name} names no Block of ours.",
            remedy=f"Give its type and its name: {', '.join(f'{kind}/NAME' for kind in kinds)}.",
        )
    problem, loaded = "", None
    try:
        loaded = cast(SettingsBlock, kinds[slug].load(document, _sync=True))  # type: ignore[call-arg]
    except ValueError:
        problem = f"there is no Prefect block {name}."
    except Exception as error:
        # Whatever a network and a server can raise; its text may quote the document.
        problem = f"the Prefect block {name} can't be loaded ({type(error).__name__})."
    if loaded is None:
        raise SettingsError(problem, remedy="Check PREFECT_API_URL and `prefect block ls`.")
    return loaded
