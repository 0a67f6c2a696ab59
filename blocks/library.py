"""The Block for a library of stems."""

from __future__ import annotations

from typing import ClassVar

from blocks.base_block import SettingsBlock
from blocks.sections import LibraryUrl
from tasks.contracts import Value


class _Location(Value):
    library: LibraryUrl = "./library"


class StemLibrary(_Location, SettingsBlock):
    """A library: the folder or object store where stems, reports and tables go.

    Its field is the settings' `library`.

    Example:
        Load a configured block:

        ```python
        from blocks import StemLibrary

        library = StemLibrary.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Stem Library"
    _block_type_slug = "stem-library"
    _description: ClassVar[str | None] = (
        "A library: the folder or object store where stems, reports and tables go."
    )
    _fields_of = _Location
