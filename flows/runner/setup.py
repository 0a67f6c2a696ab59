"""From settings to a run: the settings are read, the engine is made and the library opened once.

Whatever is wrong with the settings shows here, before anything is started.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks.redaction import install_redaction
from blocks.settings import StemwrightSettings, load_settings
from flows.logs import set_level
from flows.parameters import RunControl, Separation, overrides_of
from flows.reviewing import calibration_of
from tasks.contracts import Run
from tasks.events import Publish
from tasks.known_tracks import KnownTracks
from tasks.plugins import load_plugins
from tasks.recording import Library
from tasks.run_context import Policies, RunContext

if TYPE_CHECKING:
    from tasks.separation.engine import Engine
    from tasks.separation.routing import Route

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What a run is made of: its settings, the one engine that separates, and why that one."""

    settings: StemwrightSettings
    engine: Engine
    route: Route

    @property
    def accepted_ids(self) -> tuple[str, ...]:
        """Separations that count as done, the one that would be made first."""
        return self.engine.accepted_ids(self.settings.separation)

    @property
    def model(self) -> str:
        return self.engine.info.model

    def known_tracks(
        self, library: Library, *, force: bool = False, retry_failed: bool = False
    ) -> KnownTracks:
        """Return what `library` has settled already."""
        index = library.index()
        # There are many of these and a library has few: what it hasn't isn't asked for by track.
        wider = self.engine.wider_ids(self.settings.separation)
        accepted = (*self.accepted_ids, *(name for name in wider if name in index.separation_ids))
        return KnownTracks(library, index, accepted, force=force, retry_failed=retry_failed)


def read_settings(
    separation: Separation, control: RunControl, blocks: Any = None
) -> StemwrightSettings:
    """Read a run's settings: its parameters over environment, file, blocks and defaults.

    Raises:
        SettingsError: All that is wrong with them.
    """
    named = [control.settings_block] if control.settings_block else []
    settings = load_settings(
        Path(control.config) if control.config else None,
        overrides_of(separation, control),
        block=[*named, *(blocks.layers() if blocks else ())],
    )
    install_redaction(settings.secrets())
    return settings


def prepare(settings: StemwrightSettings, *, fetch: bool = True) -> Prepared:
    """Choose and make the engine of a run; nothing is loaded and nobody is asked yet.

    Weights that aren't here are downloaded, if `fetch`.

    Raises:
        UnknownModel, WeightsMissing, WeightsRefused, SettingsError: What is set can't work.
    """
    from tasks.separation.factory import make_engine

    engine, route = make_engine(settings.engine_options().model_copy(update={"fetch": fetch}))
    return Prepared(settings, engine, route)


_prepared: ContextVar[Prepared | None] = ContextVar("prepared", default=None)


@contextmanager
def prepared_as(prepared: Prepared) -> Iterator[None]:
    """Within this context, a flow takes what was prepared for it instead of doing it again."""
    token = _prepared.set(prepared)
    try:
        yield
    finally:
        _prepared.reset(token)


def prepared_for(separation: Separation, control: RunControl, blocks: Any = None) -> Prepared:
    """Return what the command prepared for this flow, or prepare it from its parameters."""
    given = _prepared.get()
    if given is None:
        load_plugins()
        settings = read_settings(separation, control, blocks)
        set_level(settings.logging.level)
        given = prepare(settings)
    return given


@contextmanager
def opened(
    prepared: Prepared,
    run: Run,
    publish: Publish,
    *,
    force: bool = False,
    retry_failed: bool = False,
) -> Iterator[RunContext]:
    """Open a run's library and scratch; scratch is removed and the engine closed afterwards."""
    settings, route, engine = prepared.settings, prepared.route, prepared.engine
    library = Library(settings.library)
    services = any(one.engine == "cloud" for one in route.usable)
    # The embedded model is small: no slower on a CPU than the rest of the pipeline.
    if route.warning and prepared.model != "embedded":
        log.warning(route.warning)
    try:
        with library.workspace(run.run_id) as workspace:
            yield RunContext(
                run=run.model_copy(update={"stemwright_version": version("stemwright")}),
                library=library,
                workspace=workspace,
                known=prepared.known_tracks(library, force=force, retry_failed=retry_failed),
                engine=engine,
                policies=Policies(
                    ingest=settings.ingest_policy(),
                    audio=settings.audio_policy(),
                    separation=settings.separation,
                    completeness=settings.completeness,
                    quality=settings.quality,
                ),
                publish=publish,
                retries=settings.run.retries,
                retry_base_s=settings.run.retry_delay_seconds,
                deadline_s=_deadline_of(settings, route),
                calibration=calibration_of(library),
                replace=force,
                keeps_sources=services and not settings.audio.normalize_before_submit,
            )
    finally:
        engine.close()


def _deadline_of(settings: StemwrightSettings, route: Route) -> Callable[[float], float | None]:
    """Return how long a separation may take, by the track's duration."""
    from tasks.separation.local import default_deadline_s

    def deadline_s(duration_s: float) -> float | None:
        # This machine's own default goes by what was measured, and is its engine's to know.
        default_s = None if route.device else default_deadline_s(duration_s, "")
        return settings.engine.deadline_seconds or default_s

    return deadline_s
