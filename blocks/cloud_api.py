"""The Block for an HTTP separation service."""

from __future__ import annotations

from typing import ClassVar

from blocks.door import SettingsBlock
from blocks.sections import CloudApi


class CloudSeparationApi(CloudApi, SettingsBlock):
    """An HTTP separation service: where it is, its key, and how patiently it is asked.

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
        "An HTTP separation service: where it is, its key, and how patiently it is asked."
    )
    _section = "engine"
    _fields_of = CloudApi
