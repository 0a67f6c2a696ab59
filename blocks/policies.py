"""The Blocks for what to make of a track, and by which rules.

Each is the value that the stages take, so that a flow can hand it on as it is.
"""

from __future__ import annotations

from typing import ClassVar

from blocks.base_block import SettingsBlock
from blocks.sections import SeparationSection
from tasks import contracts


class SeparationSettings(SeparationSection, SettingsBlock):
    """What to make of each mixture: the model, the stems to keep, and how they are written.

    Its fields are those of the settings' `separation` section.

    Example:
        Load a configured block:

        ```python
        from blocks import SeparationSettings

        separation = SeparationSettings.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Separation Settings"
    _block_type_slug = "separation-settings"
    _description: ClassVar[str | None] = (
        "What to make of each mixture: the model, the stems to keep, and how they are written."
    )
    _section = "separation"
    _fields_of = SeparationSection


class QualityPolicy(contracts.QualityPolicy, SettingsBlock):
    """How a score becomes a verdict: which separations pass, and which ask for a listener.

    Its fields are those of the settings' `quality` section.

    Example:
        Load a configured block:

        ```python
        from blocks import QualityPolicy

        policy = QualityPolicy.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Quality Policy"
    _block_type_slug = "quality-policy"
    _description: ClassVar[str | None] = (
        "How a score becomes a verdict: which separations pass, and which ask for a listener."
    )
    _section = "quality"
    _fields_of = contracts.QualityPolicy


class IngestPolicy(contracts.IngestPolicy, SettingsBlock):
    """What may be fetched, and how hard to try.

    Its fields are those of the settings' `ingest` section.

    Example:
        Load a configured block:

        ```python
        from blocks import IngestPolicy

        policy = IngestPolicy.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Ingest Policy"
    _block_type_slug = "ingest-policy"
    _description: ClassVar[str | None] = "What may be fetched, and how hard to try."
    _section = "ingest"
    _fields_of = contracts.IngestPolicy
