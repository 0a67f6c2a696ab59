"""The five Prefect Blocks, each with the fields of a section of the settings.

The first line of each is what Prefect's UI shows under its name. A Block is the value that the
stages take, so that a flow can hand it on as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from blocks.base_block import SettingsBlock
from blocks.sections import LibraryUrl
from tasks import contracts
from tasks.errors import SettingsError
from tasks.separation.services import CloudApi


class _Location(contracts.Value):
    library: LibraryUrl = "./library"


class StemLibrary(_Location, SettingsBlock):
    """A library: the folder or object store where stems, reports and tables go."""

    _block_type_name = "Stem Library"


class CloudSeparationApi(CloudApi, SettingsBlock):
    """A separation service: which one, where it is, its key, its patience, and what it may cost."""

    _block_type_name = "Cloud Separation API"
    _section = "engine"


class SeparationSettings(contracts.SeparationSettings, SettingsBlock):
    """What to make of each mixture: the model, the stems to keep, and how they are written."""

    _block_type_name = "Separation Settings"
    _section = "separation"


class QualityPolicy(contracts.QualityPolicy, SettingsBlock):
    """How a score becomes a verdict: which separations pass, and which ask for a listener."""

    _block_type_name = "Quality Policy"
    _section = "quality"


class IngestPolicy(contracts.IngestPolicy, SettingsBlock):
    """What may be fetched, and how hard to try."""

    _block_type_name = "Ingest Policy"
    _section = "ingest"


_KINDS: tuple[type[SettingsBlock], ...] = (
    CloudSeparationApi,
    StemLibrary,
    SeparationSettings,
    QualityPolicy,
    IngestPolicy,
)


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


def load_block(name: str) -> SettingsBlock:
    """Load a saved Block by `slug/name`.

    Raises:
        SettingsError: Not one of ours, no such document, or Prefect's API can't be reached.
    """
    kinds = {kind.get_block_type_slug(): kind for kind in _KINDS}
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
