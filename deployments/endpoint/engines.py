"""The models of this machine that the endpoint separates with, one of them loaded at a time."""

from __future__ import annotations

from deployments.endpoint.refusals import Refused
from tasks.errors import StemwrightError, UnknownModel
from tasks.separation.engine import Engine
from tasks.separation.factory import EngineOptions, make_engine, plan_route
from tasks.separation.models import ModelSpec, find_model, list_models


class Engines:
    """Finds models and holds the engine of the one that was used last.

    Args:
        options: How this machine separates, and the model of a submit that names none.

    Raises:
        UnknownModel, WeightsMissing, WeightsRefused, SettingsError: The model, or the device that
            was asked for, can't be had here.
    """

    def __init__(self, options: EngineOptions) -> None:
        # The row of the decision matrix that knows this machine only; one job, so one device.
        here = {"workload": "development", "services": (), "one_device": True}
        self._options = options.model_copy(update=here)
        self.default = self._options.find_model()
        self._route = plan_route(self._options).alone
        self.device = self._route.device.partition(",")[0]
        self._engine: Engine | None = None
        self._spec: ModelSpec | None = None

    @property
    def loaded(self) -> str:
        """The name of the model that is held; empty before the first job."""
        return self._spec.name if self._spec else ""

    def spec(self, name: str) -> ModelSpec:
        """Return a model that is on this machine; nothing is ever fetched for a caller.

        Raises:
            Refused: 422, there is none of that name here.
        """
        if name in ("", self.default.name):
            return self.default
        try:
            return find_model(name, models_dir=self._options.models_dir, offline=True)
        except UnknownModel as error:
            raise Refused(422, f"There is no model named {name[:80]!r}. {self._here()}") from error
        except StemwrightError as error:
            # Its own words name folders of this machine.
            raise Refused(
                422, f"The model {name[:80]} isn't on this machine. {self._here()}"
            ) from error

    def engine(self, spec: ModelSpec) -> Engine:
        """Return the engine of a model; the one before it is let go of."""
        if self._engine is None or self._spec != spec:
            self.close()
            settings = self._options.settings.model_copy(update={"model": spec.name, "stems": ()})
            options = self._options.model_copy(update={"settings": settings})
            self._engine, _ = make_engine(options, self._route, spec=spec)
            self._spec = spec
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = self._spec = None

    def _here(self) -> str:
        names = {entry.name for entry in list_models(self._options.models_dir) if entry.present}
        return f"It has {', '.join(sorted(names | {self.default.name}))}."
