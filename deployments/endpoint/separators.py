"""The models of this machine that the endpoint separates with, one of them loaded at a time."""

from __future__ import annotations

from pathlib import Path

from deployments.endpoint.refusals import Refused
from tasks.contracts import LocalOptions
from tasks.errors import StemwrightError, UnknownModel
from tasks.separation.legs import LocalEngine
from tasks.separation.local_engine import local_engine
from tasks.separation.models import ModelSpec, find_model, list_models
from tasks.separation.routing import Route


class Separators:
    """Finds models and holds the one that was used last.

    Args:
        default: The model of a submit that names none.
        models_dir: A folder of models.
        route: The device, and why.
        clear_cache_between_jobs: Give the GPU's cached memory back after each job.
        options: How a model is run here.
    """

    def __init__(
        self,
        default: ModelSpec,
        *,
        models_dir: Path | None,
        route: Route,
        clear_cache_between_jobs: bool = False,
        options: LocalOptions | None = None,
    ) -> None:
        self.default = default
        # One job at a time: one device.
        self.device = route.device.partition(",")[0]
        self._models_dir = models_dir
        self._reasons = route.reasons
        self._clear_cache = clear_cache_between_jobs
        self._options = options
        self._held: LocalEngine | None = None

    def spec(self, name: str) -> ModelSpec:
        """A model that is on this machine; nothing is ever fetched for a caller.

        Raises:
            Refused: 422, there is none of that name here.
        """
        if name in ("", self.default.name):
            return self.default
        try:
            return find_model(name, models_dir=self._models_dir, offline=True)
        except UnknownModel as error:
            raise Refused(422, f"There is no model named {name[:80]!r}. {self._here()}") from error
        except StemwrightError as error:
            # Its own words name folders of this machine.
            raise Refused(
                422, f"The model {name[:80]} isn't on this machine. {self._here()}"
            ) from error

    def separator(self, name: str) -> LocalEngine:
        """The model, to separate with; the one before it is let go of."""
        spec = self.spec(name)
        held = self._held
        if held is not None and held.spec == spec:
            return held
        self.close()
        self._held = local_engine(
            spec,
            device=self.device,
            reasons=self._reasons,
            clear_cache_between_jobs=self._clear_cache,
            options=self._options,
        )
        return self._held

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def _here(self) -> str:
        names = {entry.name for entry in list_models(self._models_dir) if entry.present}
        return f"It has {', '.join(sorted(names | {self.default.name}))}."
