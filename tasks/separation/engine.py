"""`Engine`: what separates. Local models, services, and the wrappers around them are all one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from itertools import combinations
from typing import Any, Self

from tasks.contracts import EngineName, SeparationSettings, StemSet, Value
from tasks.errors import StemwrightError
from tasks.separation.request import SeparationRequest

_FEW = 6


class EngineInfo(Value):
    """What is known of an engine before it is asked for anything.

    Attributes:
        name: What logs and reports call it: `local_gpu`, `local_cpu`, or a service's name.
        kind: Whose hardware it runs on.
        model: The separation model's name.
        sources: The stems that the model makes, in its order.
        device: Torch's name of the device, several joined by commas; empty for a service.
        slots: Tracks that it takes at once.
    """

    name: str
    kind: EngineName
    model: str
    sources: tuple[str, ...]
    device: str = ""
    slots: int = 1

    @property
    def is_service(self) -> bool:
        return self.kind == "cloud"


class Engine(ABC):
    """Makes stems of mixtures. Safe to call from several threads at once.

    It crosses to another process as the arguments that it was made of: models, connections and
    locks stay behind, and are made anew there.
    """

    _made_of: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        engine = super().__new__(cls)
        engine._made_of = (args, kwargs)
        return engine

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._made_of
        return partial(type(self), *args, **kwargs), ()

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """What this engine is."""

    @abstractmethod
    def separation_id(self, settings: SeparationSettings) -> str:
        """The identity of a separation with these settings: settings and weights, nothing else."""

    def accepted_ids(self, settings: SeparationSettings) -> tuple[str, ...]:
        """Identities of finished separations that make a new one needless, the own one first."""
        return (self.separation_id(settings),)

    def wider_ids(self, settings: SeparationSettings) -> tuple[str, ...]:
        """Identities of separations that have the stems asked for and more, the fewest first.

        Of a model with a great many stems only the set of all counts.
        """
        kept, sources = set(settings.stems), self.info.sources
        others = [name for name in sources if name not in kept]
        if not kept or not others:
            return ()
        counts = range(1, len(others)) if len(others) <= _FEW else ()
        wider = [kept.union(more) for count in counts for more in combinations(others, count)]
        sets = [tuple(name for name in sources if name in names) for names in wider]
        return tuple(
            name
            for stems in (*sets, ())
            for name in self.accepted_ids(settings.model_copy(update={"stems": stems}))
        )

    @abstractmethod
    def separate(self, request: SeparationRequest) -> StemSet:
        """Separate a mixture into files in `request.folder`.

        Raises:
            StemwrightError: Whatever stood in the way, with the track and the stage in it.
        """

    def price_usd(self, duration_s: float, settings: SeparationSettings) -> float:
        """Dollars that so much audio is going to cost; 0 where it is free or nobody says."""
        return 0.0

    def release(self, track_id: str) -> None:
        """Let go of what is kept of a track: its stems are in the library, or no use."""
        return

    def fatal_error(self) -> StemwrightError | None:
        """Why nothing more can be asked of this engine in this run, or None."""
        return None

    def close(self) -> None:
        """Let go of models, devices and connections."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
