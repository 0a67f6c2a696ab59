"""`ModelFamily`: networks of one kind, from the names they go by to the engine that runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.contracts import LocalOptions
from tasks.separation.models.families import FAMILIES
from tasks.separation.models.spec import KnownModel, ModelSpec, Origin

if TYPE_CHECKING:
    from tasks.separation.on_device import DeviceSeparator

OnProgress = Callable[[str, int, int], None]
"""Given a file's name, the bytes that are here, and the bytes there will be (0: unknown)."""


@dataclass(frozen=True)
class Located:
    """Where a model's files lie on this machine.

    Attributes:
        files: Those that are here, in the model's order.
        missing: Names of those that aren't.
        origin: Which search found them.
        repos: Where the missing ones are published, `OWNER/NAME` on the hub.
        stuck: Why they can't be fetched, where nobody publishes them.
        plan: What the family has read of how the model is put together.
    """

    files: tuple[Path, ...]
    missing: tuple[str, ...]
    origin: Origin
    repos: tuple[str, ...] = ()
    stuck: str = ""
    plan: Any = None

    @property
    def where(self) -> str:
        return ", ".join(dict.fromkeys(str(path.parent) for path in self.files))


class ModelFamily(ABC):
    """One kind of networks, without state; a subclass that was imported is known by its `name`.

    Attributes:
        name: What `ModelSpec.family` and listings call it.
        known: The models that have a name, by it.
        can_be_tuned: `doctor --tune` can measure its models.
    """

    name: ClassVar[str]
    known: ClassVar[Mapping[str, KnownModel]]
    can_be_tuned: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        FAMILIES[cls.name] = cls

    @property
    def needs(self) -> str:
        """How to install the library that runs the family; empty where it is there."""
        return ""

    def names_in(self, folder: Path) -> list[str]:
        """Return the models that a folder describes, known or not."""
        return []

    @abstractmethod
    def locate(self, name: str, folder: Path | None) -> Located | None:
        """Look for a model's files on this machine; None if the name is none of the family's.

        Raises:
            LibraryMissing: The family's library isn't installed, and nothing is known without it.
            WeightsRefused: There is something that mustn't be used.
        """

    def sources(self, name: str, located: Located) -> tuple[str, ...]:
        """Return the stems of a model whose files are all here; reads headers at most."""
        return self.known[name].stems

    @abstractmethod
    def describe(self, name: str, located: Located) -> ModelSpec:
        """Describe a model whose files are all here, their digests checked or found.

        Raises:
            WeightsRefused: Damaged, or other bytes than were published.
        """

    @abstractmethod
    def fetch(self, name: str, located: Located, on_progress: OnProgress) -> None:
        """Bring the missing files to this machine, where `locate` finds them.

        Raises:
            HubUnreachable, NetworkError, ProtocolError, WeightsRefused, DiskFull.
        """

    def published_sha256(self, spec: ModelSpec, file: Path) -> str:
        """Return the digest that was published of a file, or ""."""
        return ""

    @abstractmethod
    def make_engine(
        self,
        spec: ModelSpec,
        *,
        device: str,
        options: LocalOptions | None = None,
        **common: Any,
    ) -> DeviceSeparator:
        """Make what separates on one device; weights are loaded at the first track.

        Args:
            device: Torch's name.
            options: Arithmetic, batch, libraries.
            common: `DeviceSeparator`'s other arguments.

        Raises:
            LibraryMissing: The family's library can't be imported.
            SettingsError: It can't use the device or the precision.
        """
