"""The options that several commands share, and how they become flow parameters."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.contracts import Verdict
from tasks.errors import SettingsError

if TYPE_CHECKING:
    from tasks.recording import Library


class ProviderOption(StrEnum):
    auto = "auto"
    local_gpu = "local_gpu"
    cloud = "cloud"
    local_cpu = "local_cpu"


class WorkloadOption(StrEnum):
    realtime = "realtime"
    batch = "batch"
    development = "development"
    budget = "budget"


class FormatOption(StrEnum):
    flac = "flac"
    wav = "wav"


class DepthOption(StrEnum):
    d16 = "16"
    d24 = "24"
    d32f = "32f"


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="A file, a folder, an http(s) URL that yt-dlp can fetch, an object-store URL, "
        "a catalog (.csv .parquet .jsonl .txt .m3u), or - for one source a line on stdin.",
        show_default=False,
    ),
]
OnlyVerdict = Annotated[
    Verdict | None, typer.Option("--verdict", help="Only tracks with this verdict.")
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
    ProviderOption | None, typer.Option("--provider", help=r"The engine. \[default: auto]")
]
WorkloadChoice = Annotated[
    WorkloadOption | None, typer.Option("--workload", help="What matters when choosing the engine.")
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
    FormatOption | None, typer.Option("--format", help=r"Of the stems. \[default: flac]")
]
Depth = Annotated[
    DepthOption | None,
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
Offline = Annotated[bool, typer.Option("--offline", help="Use no network.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def parameters(
    *,
    sources: list[str],
    library: str = "",
    config: Path | None = None,
    model: str = "",
    models_dir: str = "",
    stems: str = "",
    provider: ProviderOption | None = None,
    workload: WorkloadOption | None = None,
    deadline: float = 0.0,
    format: FormatOption | None = None,
    bit_depth: DepthOption | None = None,
    jobs: int = 0,
    limit: int = 0,
    retry_failed: bool = False,
    force: bool = False,
    offline: bool = False,
    fail_under: float = 0.0,
) -> dict[str, Any]:
    """The command's options as the parameters of `separate_catalog`."""
    from flows.parameters import CatalogSources, RunControl, Separation

    unset = "as configured"
    return {
        "tracks": CatalogSources(sources=sources, limit=limit),
        "separation": Separation(
            library=library,
            model=model,
            stems=[name.strip() for name in stems.split(",") if name.strip()],
            provider=provider.value if provider else unset,
            workload=workload.value if workload else unset,
            deadline_s=deadline,
            format=format.value if format else unset,
            bit_depth=bit_depth.value if bit_depth else unset,
        ),
        "control": RunControl(
            jobs=jobs,
            force=force,
            retry_failed=retry_failed,
            offline=offline,
            fail_under=fail_under,
            config=str(config) if config else "",
            models_dir=models_dir,
        ),
    }


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
