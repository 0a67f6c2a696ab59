"""The Block for an HTTP separation service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from blocks.base_block import SettingsBlock
from blocks.sections import CloudApi


class CloudSeparationApi(CloudApi, SettingsBlock):
    """A separation service: which one, where it is, its key, its patience, and what it may cost.

    Its fields are those of the settings' `engine` section that concern the service.

    Example:
        Load a configured block:

        ```python
        from blocks import CloudSeparationApi

        api = CloudSeparationApi.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Cloud Separation API"
    _block_type_slug = "cloud-separation-api"
    _description: ClassVar[str | None] = (
        "A separation service: which one, where it is, its key, its patience, and what it may cost."
    )
    _section = "engine"
    _fields_of = CloudApi


class Alternatives:
    """Blocks of further services as the settings' `engine.alternatives`."""

    def __init__(self, services: Sequence[CloudSeparationApi]) -> None:
        self._services = services

    @property
    def full_name(self) -> str:
        return ", ".join(service.full_name for service in self._services)

    def to_settings(self) -> dict[str, Any]:
        found = [service.to_settings()["engine"] for service in self._services]
        return {"engine": {"alternatives": found}}
