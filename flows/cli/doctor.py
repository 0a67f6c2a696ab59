"""`stemwright doctor`: what this machine has, what `auto` picks, and what stands in the way."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import options as opt
from flows.cli.console import CRAMPED, Exit, err, out, print_json, safe, tell
from flows.cli.findings import Finding, answers
from flows.cli.services import services
from tasks.errors import StemwrightError, WeightsMissing

if TYPE_CHECKING:
    from blocks.settings import StemwrightSettings
    from tasks.separation.models import ModelSpec

LITTLE_BYTES = 5 * 1000**3
STALE_DAYS = 120

COLOUR = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor(
    library: opt.LibraryDir = "",
    config: opt.Config = None,
    model: opt.Model = "",
    models_dir: opt.ModelsDir = "",
    offline: opt.Offline = False,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="Measure the fastest batch and backend for the model."),
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Check hardware, engine, weights, configuration, APIs and disk; each line says the fix.

    Exits with 1 if there is a problem.

    With --tune the model is run on the device that `auto` picks, in every precision and at growing
    batches; what was fastest at 40 dB or better is used from then on.

    Example: stemwright doctor --model htdemucs
    """
    findings = list(_examine(library, config, model, models_dir, offline, tune))
    problems = sum(finding.state == "problem" for finding in findings)
    if as_json:
        print_json(
            {"findings": [finding.model_dump() for finding in findings], "problems": problems}
        )
    else:
        for finding in findings:
            colour = COLOUR[finding.state]
            beside = out.width >= CRAMPED
            state = f"{finding.state:<8}" if beside else finding.state
            tell(f"[{colour}]{state}[/] {finding.check:<14}", safe(finding.text), pad=0)
            if finding.fix:
                out.print(f"{'':<24}" * beside + f"→ {safe(finding.fix)}")
    raise typer.Exit(Exit.SOME_FAILED if problems else Exit.DONE)


def _examine(
    library: str, config: Path | None, model: str, models_dir: str, offline: bool, tune: bool
) -> Iterator[Finding]:
    from blocks.settings import StemwrightSettings, load_settings
    from flows.parameters import RunControl, Separation, overrides_of

    yield from _software()
    overrides = overrides_of(
        Separation(library=library, model=model),
        RunControl(offline=offline, models_dir=models_dir),
    )
    try:
        settings = load_settings(config, overrides)
    except StemwrightError as error:
        yield Finding(check="configuration", state="problem", text=error.cause, fix=error.remedy)
        yield from _hardware()
        yield _guarded("embedded", _embedded, StemwrightSettings())
        return
    yield _configuration(settings)
    yield from _hardware()
    for check, look in (
        ("model", _model),
        ("engine", _engine),
        ("speed", _tuned if tune else _speed),
        ("embedded", _embedded),
        ("Prefect", _prefect),
    ):
        yield _guarded(check, look, settings)
    yield from services(settings)
    yield _guarded("disk", _disk, settings)


def _guarded(
    check: str, look: Callable[[StemwrightSettings], Finding], settings: StemwrightSettings
) -> Finding:
    try:
        return look(settings)
    except StemwrightError as error:
        return Finding(check=check, state="problem", text=error.cause, fix=error.remedy)


def _software() -> Iterator[Finding]:
    from importlib.metadata import version

    names = ("stemwright", "prefect", "torch", "demucs", "av", "yt-dlp")
    text = ", ".join(f"{name} {version(name)}" for name in names)
    python = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding(check="software", state="ok", text=f"Python {python}, {text}")
    # A nightly build's version goes on after the day.
    released = date(*map(int, version("yt-dlp").split(".")[:3]))
    age = (date.today() - released).days
    if age > STALE_DAYS:
        yield Finding(
            check="yt-dlp",
            state="warning",
            text=f"the installed version is {age} days old; sites change faster than that.",
            fix="pip install --upgrade yt-dlp",
        )


def _configuration(settings: StemwrightSettings) -> Finding:
    origins = settings.sources()
    text = ", ".join(f"{key} from {origin}" for key, origin in sorted(origins.items()))
    return Finding(check="configuration", state="ok", text=text or "defaults only")


def _hardware() -> Iterator[Finding]:
    from tasks.separation.hardware import detect

    for sentence in detect().describe:
        yield Finding(check="hardware", state="ok", text=sentence)


def _model(settings: StemwrightSettings) -> Finding:
    from tasks.separation.models import find_model

    name = settings.separation.model
    try:
        # Looking must not download hundreds of megabytes: offline on purpose.
        spec = find_model(name, models_dir=settings.models_dir, offline=True)
    except StemwrightError as error:
        if isinstance(error, WeightsMissing) and not settings.engine.offline:
            return Finding(
                check="model",
                state="warning",
                text=error.cause.replace(" (offline)", ""),
                fix=f"`stemwright models fetch {name}`, or the first run fetches them.",
            )
        raise
    return Finding(
        check="model",
        state="ok",
        text=f"{spec.name}: {', '.join(spec.sources)}; weights {spec.weights_sha256[:12]}…",
    )


def _engine(settings: StemwrightSettings) -> Finding:
    from tasks.separation.factory import plan_route

    route = plan_route(settings.engine_options())
    what, *why = route.reasons
    where = route.device or settings.engine.base_url
    text = f"{route.engine} ({where}). {what}: {'; '.join(why)}."
    if not route.warning:
        return Finding(check="engine", state="ok", text=text)
    fix = f"{route.warning} A GPU or a cloud service is faster."
    return Finding(check="engine", state="warning", text=text, fix=fix)


def _here(settings: StemwrightSettings) -> tuple[ModelSpec, str] | None:
    """The model and the device of local separation, where it can be tuned and both are here."""
    from tasks.separation.factory import plan_route
    from tasks.separation.models import family_of, find_model

    route = plan_route(settings.engine_options())
    device = next((one.device for one in route.usable if one.device), "")
    try:
        spec = find_model(settings.separation.model, models_dir=settings.models_dir, offline=True)
    except WeightsMissing:
        return None
    tunable = family_of(spec.family).can_be_tuned
    return (spec, device.partition(",")[0]) if device and tunable else None


def _speed(settings: StemwrightSettings) -> Finding:
    from tasks.separation.tuning import Tuning

    here = _here(settings)
    known = Tuning().of(*here) if here else None
    if here is None or known is None or not known.fastest:
        fix = "`stemwright doctor --tune` measures the fastest batch and backend."
        text = "not measured yet" if here else "needs a model of demucs' family that is here"
        return Finding(check="speed", state="ok", text=text, fix=fix if here else "")
    from tasks.separation.local.separator import auto_precision

    asked = settings.local.precision
    taken = auto_precision(here[1]) if asked == "auto" else asked
    text = (
        f"{here[0].name} on {here[1]}: {known.speed:.1f} s of audio a second at best; {asked} "
        f"takes {taken}, {max(1, known.batch)} segments at once"
    )
    if known.fastest != taken:
        text += f"; {known.fastest} was faster (local.precision, other stems by other names)"
    return Finding(check="speed", state="ok", text=text)


def _tuned(settings: StemwrightSettings) -> Finding:
    from tasks.separation.local.measuring import Trial, tune

    here = _here(settings)
    if here is None:
        return _speed(settings)

    def show(trial: Trial) -> None:
        like = "" if trial.agreement_db is None else f", {trial.agreement_db:.0f} dB of fp32"
        made = ", compiled" if trial.compiled else ""
        speed = f"{trial.speed:.2f} s of audio a second" if trial.speed else "out of memory"
        err.print(f"[dim]{trial.precision}, {trial.batch} at once{made}: {speed}{like}[/]")

    tune(*here, options=settings.local, on_trial=show)
    return _speed(settings)


def _embedded(settings: StemwrightSettings) -> Finding:
    from tasks.separation.models import find_model

    spec = find_model("embedded", models_dir=None, offline=True)
    return Finding(
        check="embedded", state="ok", text=f"embedded model present ({spec.weights_sha256[:12]}…)"
    )


def _prefect(settings: StemwrightSettings) -> Finding:
    from flows.cli.own_prefect import homes
    from flows.cli.prefect_address import check_logging, read_address
    from tasks.separation.state import VARIABLE, state_folder

    address = read_address()
    check_logging()
    if address:
        finding = answers("Prefect", f"{address.url.rstrip('/')}/health", address.remedy)
        return finding.model_copy(update={"text": f"{finding.text} (set by {address.origin})"})
    home = homes()
    if home.parent.name != state_folder().name:
        text = f"{state_folder()} can't be written, so each run's own server lives in {home}"
        fix = f"Set {VARIABLE} to a folder that can be written to."
        return Finding(check="Prefect", state="warning", text=text, fix=fix)
    text = f"embedded for each run, with a home of its own in {home} (no PREFECT_API_URL is set)"
    return Finding(check="Prefect", state="ok", text=text)


def _disk(settings: StemwrightSettings) -> Finding:
    if "://" in settings.library:
        return Finding(check="disk", state="ok", text=f"library at {settings.library}")
    place = Path(settings.library).resolve()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        fix = "Choose another --library, or see to its permissions."
        text = f"{place} is no folder that can be written"
        return Finding(check="disk", state="problem", text=text, fix=fix)
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.1f} GB free at {place}"
    if free < LITTLE_BYTES:
        fix = "An hour of music with four 24-bit stems takes about 3.5 GB."
        return Finding(check="disk", state="warning", text=text, fix=fix)
    return Finding(check="disk", state="ok", text=text)
