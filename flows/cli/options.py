"""The options that several commands share, and how they become flow parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from tasks.contracts import BitDepth, Provider, StemFormat, Verdict, Workload
from tasks.errors import SettingsError

if TYPE_CHECKING:
    from flows.parameters import RunControl, Separation
    from tasks.recording import Library


def model_names(incomplete: str) -> list[str]:
    """Return the models whose names begin so, for a shell that completes words."""
    from tasks.separation.models import list_models

    return [model.name for model in list_models() if model.name.startswith(incomplete)]


Sources = Annotated[
    list[str],
    # What it may be stands in the command's own words: with click 8.5 Typer shows no more than its
    # name.
    typer.Argument(metavar="SOURCE...", show_default=False),
]
OnlyVerdict = Annotated[
    Verdict | None,
    typer.Option(
        "--verdict", help="Only tracks with this verdict: pass (good), review (check), fail (poor)."
    ),
]
AnyQuery = Annotated[str, typer.Argument(metavar="[QUERY]", show_default=False)]
ByModel = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Only reports by this model, or of this separation id.",
        show_default=False,
    ),
]
OfRun = Annotated[
    str,
    typer.Option(
        "--run",
        metavar="ID",
        help="Only of this run: its id, its first eight digits, or its name.",
        show_default=False,
    ),
]
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        metavar="DATE",
        formats=_DATES,
        help="Only made from then on; UTC.",
        show_default=False,
    ),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        "--until",
        metavar="DATE",
        formats=_DATES,
        help="Only made up to then, that day included; UTC.",
        show_default=False,
    ),
]
OfGenre = Annotated[
    str,
    typer.Option("--genre", metavar="NAME", help="Only of this genre.", show_default=False),
]
CompareTwo = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--compare",
        metavar="A B",
        help="Two models, or separation ids, on the tracks that both have.",
        show_default=False,
    ),
]
LibraryDir = Annotated[
    str,
    typer.Option(
        "--library",
        metavar="URL",
        help=r"Where results are. \[default: ./library]",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help=r"Settings. \[default: ./stemwright.yaml if it exists]"
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        autocompletion=model_names,
        help=r"See `stemwright models list`. \[default: htdemucs]",
        show_default=False,
    ),
]
ModelsDir = Annotated[
    str,
    typer.Option("--models-dir", metavar="DIR", help="A folder of models; or STEMWRIGHT_MODELS."),
]
Stems = Annotated[
    str, typer.Option("--stems", metavar="NAMES", help="Keep only these, e.g. vocals,drums.")
]
ProviderChoice = Annotated[
    Provider | None,
    typer.Option(
        "--provider",
        metavar="ENGINE",
        help=r"auto, local_gpu, cloud or local_cpu. \[default: auto]",
    ),
]
WorkloadChoice = Annotated[
    Workload | None,
    typer.Option(
        "--workload",
        metavar="NAME",
        help="What matters when choosing the engine: realtime, batch, development or budget.",
    ),
]
Deadline = Annotated[
    float,
    typer.Option(
        "--deadline",
        metavar="SECONDS",
        min=0,
        help=r"For each track. \[default: by its length]",
        show_default=False,
    ),
]
Format = Annotated[
    StemFormat | None, typer.Option("--format", help=r"Of the stems. \[default: flac]")
]
Depth = Annotated[
    BitDepth | None,
    typer.Option("--bit-depth", help=r"Of the stems; 32f needs wav. \[default: 24]"),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs", metavar="N", min=0, max=256, help="Tracks in flight.", show_default=False
    ),
]
Limit = Annotated[
    int,
    typer.Option("--limit", metavar="N", min=0, help="Stop after N tracks.", show_default=False),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what failed for what the input is.")
]
Force = Annotated[bool, typer.Option("--force", help="Separate again what is finished.")]
OutDir = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="The folder; made where it isn't there.")
]
MaybeOutDir = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Put the stems there, too, under readable names.",
        show_default=False,
    ),
]
NameTemplate = Annotated[
    str,
    typer.Option(
        "-o",
        "--output-template",
        metavar="TEMPLATE",
        help="Names in --out. Fields: name (artist - title), artist, title, album, genre, isrc, "
        r"stem, ext, track_id, model, source. \[default: {name}/{stem}.{ext}]",
        show_default=False,
    ),
]
ExportFormat = Annotated[
    Literal["flac", "wav", "mp3", "m4a", "opus", "stem.mp4"] | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="Encode anew, with tags and cover: flac, wav, mp3, m4a, opus or stem.mp4.",
        show_default=False,
    ),
]
TwoStems = Annotated[
    str,
    typer.Option(
        "--two-stems",
        metavar="STEM",
        help="This stem, and no_STEM: the mixture minus it.",
        show_default=False,
    ),
]
AllowPrivate = Annotated[
    bool,
    typer.Option(
        "--allow-private", help="Fetch from addresses that aren't public: this network, loopback."
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Use no network.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What `separate` and `plan` are told alike; other commands are told some of it."""

    sources: Sources
    library: LibraryDir = ""
    config: Config = None
    model: Model = ""
    models_dir: ModelsDir = ""
    stems: Stems = ""
    provider: ProviderChoice = None
    workload: WorkloadChoice = None
    deadline: Deadline = 0.0
    format: Format = None
    bit_depth: Depth = None
    jobs: Jobs = 0
    limit: Limit = 0
    retry_failed: RetryFailed = False
    force: Force = False
    offline: Offline = False
    allow_private: AllowPrivate = False

    def __post_init__(self) -> None:
        from tasks.paths import is_text, shown
        from tasks.sources import from_argument

        for option, value in vars(self).items():
            if option != "sources" and not is_text(str(value)):
                hint = f"--{option.replace('_', '-')}"
                raise typer.BadParameter(f"{shown(str(value))} isn't UTF-8.", param_hint=hint)
        object.__setattr__(self, "sources", [from_argument(source) for source in self.sources])

    @property
    def separation(self) -> Separation:
        """What to make of the tracks, and where to put it, as the flows are told."""
        from flows.parameters import Separation

        unset: Literal["as configured"] = "as configured"
        return Separation(
            library=self.library,
            model=self.model,
            stems=list(listed(self.stems)),
            provider=self.provider or unset,
            workload=self.workload or unset,
            deadline_s=self.deadline,
            format=self.format or unset,
            bit_depth=self.bit_depth or unset,
        )

    def control(self, *, fail_under: float = 0.0) -> RunControl:
        """How to run, as the flows are told."""
        from flows.parameters import RunControl

        return RunControl(
            jobs=self.jobs,
            force=self.force,
            retry_failed=self.retry_failed,
            offline=self.offline,
            fail_under=fail_under,
            config=str(self.config) if self.config else "",
            models_dir=self.models_dir,
        )


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let Typer ask for each field of `RunOptions` in place of a command's first parameter."""
    hints = get_type_hints(RunOptions, include_extras=True)
    shared = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(RunOptions)
    ]
    own = [*signature(command, eval_str=True).parameters.values()][1:]

    @wraps(command)
    def spread(**given: Any) -> None:
        options = RunOptions(**{name: given.pop(name) for name in hints})
        command(options, **given)

    parameters = [*shared, *(one.replace(kind=Parameter.KEYWORD_ONLY) for one in own)]
    spread.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return spread


def listed(text: str) -> tuple[str, ...]:
    """Return the names in a text that parts them by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def open_library(given: str, config: Path | None, *, there: bool = False) -> Library:
    """Return the library that a command is about: the one given, else that of the settings.

    Raises:
        SettingsError: The settings can't be read; or it is to be `there` and isn't.
    """
    from blocks.settings import load_settings
    from tasks.recording import Library

    library = Library(load_settings(config, {"library": given} if given else {}).library)
    if there and library.is_local and not Path(library.url).is_dir():
        raise SettingsError(
            f"there is no library at {library.url}.", remedy="Check --library, or run `separate`."
        )
    return library


def nothing_meant(library: Library, query: str) -> SettingsError:
    """Return the error for a query that means nothing in a library."""
    return SettingsError(
        f"nothing in {library.url} is meant by {query!r}.",
        remedy="`stemwright reports` shows what is there.",
    )
