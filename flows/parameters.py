"""The parameters of the flows: typed, described, grouped, so that the Prefect UI makes a good form.

Whatever is left at its default here ("as configured", an empty text, a zero) is taken from the
environment, the configuration file or the block, in that order.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# One Literal each, "as configured" included: a union of them would be tabs, not a dropdown.
Provider = Literal["as configured", "auto", "local_gpu", "cloud", "local_cpu"]
Workload = Literal["as configured", "realtime", "batch", "development", "budget"]
FileFormat = Literal["as configured", "flac", "wav"]
BitDepth = Literal["as configured", "16", "24", "32f"]

LibraryUrl = Annotated[
    str,
    Field(
        title="Library",
        description="A folder or an object-store URL. Empty: as configured (./library).",
    ),
]
ConfigFile = Annotated[
    str,
    Field(
        title="Configuration file",
        description="Path of a stemwright.yaml on the worker. Empty: ./stemwright.yaml if there.",
    ),
]
SettingsBlock = Annotated[
    str,
    Field(
        title="Settings block",
        description="A Prefect block to take settings from, such as cloud-separation-api/prod.",
    ),
]
# An empty path would be the worker's own folder.
NotEmpty = Annotated[str, Field(min_length=1)]


# What the server may store. With a lone surrogate in one run it answers every poll of its workers
# with 500, and PostgreSQL takes no NUL. (A NaN or an infinity would come back as null.)
STORABLE = r"^[\x01-\uD7FF\uE000-\U0010FFFF]*$"
LONGEST_TEXT, MOST_ITEMS, LARGEST_NUMBER = 4096, 1000, 1_000_000_000


def storable_text(**more: Any) -> dict[str, Any]:
    """The schema of a text that the server can store."""
    return {"type": "string", "pattern": STORABLE, "maxLength": LONGEST_TEXT} | more


def as_form(schema: dict[str, Any]) -> None:
    """Make a group's schema what the server checks a run against before it stores it.

    Bounds stand in the schema alone where they are the server's: a command line may be longer.
    Fields are numbered as the class has them: what is stored keeps no order of keys.
    """
    for position, field in enumerate(schema["properties"].values()):
        field["position"] = position
        _bound(field)


def _bound(field: dict[str, Any]) -> None:
    match field.get("type"):
        case "string" if "enum" not in field:
            field.update(storable_text(**field))
        case "integer" | "number":
            most = field.setdefault("maximum", field.get("exclusiveMaximum", LARGEST_NUMBER))
            field.setdefault("minimum", field.get("exclusiveMinimum", -LARGEST_NUMBER))
            # No comparison with a NaN holds, so that no bound refuses one.
            field["not"] = {"exclusiveMinimum": most}
        case "array":
            field.setdefault("maxItems", MOST_ITEMS)
            _bound(field["items"])


class Parameters(BaseModel):
    """A group of fields of the form. Unknown ones are refused: a typo must not pass in silence."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=as_form)


class TrackSource(Parameters):
    """Which track."""

    source: NotEmpty = Field(
        title="Source",
        description="A path, an http(s) URL that yt-dlp can fetch, or an object-store URL.",
    )
    title: str = Field(
        default="", title="Title", description="Empty: from the file's tags or its page."
    )
    artist: str = Field(default="", title="Artist")
    album: str = Field(default="", title="Album")
    genre: str = Field(default="", title="Genre")


class CatalogSources(Parameters):
    """Which tracks."""

    sources: list[NotEmpty] = Field(
        title="Sources",
        description="Files, folders, URLs, or catalogs (.csv .parquet .jsonl .txt .m3u).",
        min_length=1,
    )
    limit: int = Field(
        default=0, ge=0, title="Limit", description="Stop after so many tracks; 0 is no limit."
    )


class Separation(Parameters):
    """What to make of it, and where to put it."""

    library: LibraryUrl = ""
    model: str = Field(
        default="",
        title="Model",
        description="For example htdemucs or embedded. Empty: as configured (htdemucs).",
    )
    stems: list[NotEmpty] = Field(
        default=[],
        title="Stems to keep",
        description="For example vocals, drums. None: every stem of the model.",
    )
    provider: Provider = Field(
        default="as configured",
        title="Engine",
        description="What separates. auto: a GPU, else a configured cloud, else the CPU.",
    )
    workload: Workload = Field(
        default="as configured",
        title="Workload",
        description="What auto goes by, where there is a choice.",
    )
    deadline_s: float = Field(
        default=0.0,
        ge=0,
        title="Deadline, s",
        description="Seconds for the separation of one track; 0 goes by the track's length.",
    )
    format: FileFormat = Field(
        default="as configured", title="File format", description="Of the stems."
    )
    bit_depth: BitDepth = Field(
        default="as configured", title="Bit depth", description="Of the stems; 32f needs wav."
    )


class RunControl(Parameters):
    """How to run."""

    jobs: int = Field(
        default=0, ge=0, le=256, title="Tracks in flight", description="0: as configured."
    )
    force: bool = Field(
        default=False, title="Force", description="Separate again what is finished already."
    )
    retry_failed: bool = Field(
        default=False,
        title="Retry failed",
        description="Try again what failed earlier because of what the input is.",
    )
    offline: bool = Field(default=False, title="Offline", description="Use no network.")
    fail_under: float = Field(
        default=0.0,
        ge=0,
        le=1,
        title="Fail under",
        description="End as Failed when a track's score is under this; 0 is off.",
    )
    config: ConfigFile = ""
    models_dir: str = Field(
        default="", title="Models folder", description="On the worker. Empty: as configured."
    )
    settings_block: SettingsBlock = ""


def overrides_of(separation: Separation, control: RunControl) -> dict[str, Any]:
    """The settings that these parameters set themselves, as nested configuration keys."""
    wanted: dict[str, dict[str, Any]] = {
        "engine": {
            "provider": separation.provider,
            "workload": separation.workload,
            "deadline_seconds": separation.deadline_s,
            "offline": control.offline,
            "models_dir": control.models_dir,
        },
        "separation": {
            "model": separation.model,
            "stems": separation.stems,
            "format": separation.format,
            "bit_depth": separation.bit_depth,
        },
        "run": {"jobs": control.jobs},
    }
    chosen: dict[str, Any] = {
        section: {key: value for key, value in keys.items() if _is_set(value)}
        for section, keys in wanted.items()
    }
    if separation.library:
        chosen["library"] = separation.library
    return {key: value for key, value in chosen.items() if value}


def _is_set(value: object) -> bool:
    return bool(value) and value != "as configured"
