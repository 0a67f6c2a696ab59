"""The sections of the settings: every key that YAML, the environment and the Blocks share.

Zero and the empty string stand for "let Stemwright choose", so that no form needs a null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tasks import contracts
from tasks.contracts import Provider, Value, Workload, WrittenBitDepth
from tasks.separation.services import EXAMPLE_BASE_URL, CloudApi, from_json


def _services(value: Any) -> Any:
    found = from_json(value)
    if not isinstance(found, list | tuple):
        return found
    # A key without a value isn't set, here as everywhere.
    return tuple(
        {key: item for key, item in one.items() if item is not None}
        if isinstance(one, Mapping)
        else one
        for one in found
    )


Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
UpperLevel = Annotated[
    Level, BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
]
LibraryUrl = Annotated[
    str,
    Field(
        min_length=1,
        title="Library",
        description="A folder or an fsspec URL: where stems, reports and tables go.",
    ),
]


class EngineSettings(CloudApi):
    """What separates: this machine or a service, and under which limits."""

    provider: Provider = Field(
        default="auto",
        title="Provider",
        description="Auto takes a GPU, then a configured API, then the CPU.",
    )
    workload: Workload = Field(
        default="batch", title="Workload", description="What the order of engines is tuned for."
    )
    alternatives: Annotated[tuple[CloudApi, ...], BeforeValidator(_services)] = Field(
        default=(),
        title="Alternatives",
        description="Further services, asked in this order when the first one can't.",
    )
    fallback_to_local: bool = Field(
        default=False,
        title="Fall back to this machine",
        description="With the provider cloud: it takes over when no service can.",
    )
    cloud_jobs: int = Field(
        default=16,
        ge=1,
        le=1024,
        title="Jobs at a service",
        description="Tracks in flight when a service comes first.",
    )
    deadline_seconds: float = Field(
        default=0.0,
        ge=0,
        title="Deadline of a track",
        description="In seconds; 0 goes by the track's length.",
    )
    models_dir: str = Field(
        default="", title="Models folder", description="Empty is the usual place."
    )
    offline: bool = Field(
        default=False, title="Offline", description="No network: no downloads and no cloud."
    )

    @property
    def services(self) -> tuple[CloudApi, ...]:
        """The services in order. The first one is left out when only alternatives are set up."""
        nothing = not self.api_key.get_secret_value() and self.base_url in ("", EXAMPLE_BASE_URL)
        if nothing and self.alternatives and self.service == "stemwright":
            return self.alternatives
        return (self, *self.alternatives)


class AudioSettings(Value):
    """The lossless audio that is separated."""

    input_format: Literal["wav", "flac"] = Field(
        default="flac",
        title="Upload format",
        description="Of the audio given to a cloud engine; flac is half as large, and no less.",
    )
    sample_rate: int = Field(
        default=contracts.SAMPLE_RATE_HZ,
        ge=8_000,
        le=192_000,
        title="Sample rate",
        description="Of the mixture and its stems, in hertz.",
    )
    bit_depth: WrittenBitDepth = Field(
        default="24", title="Bit depth", description="The mixture's least; deeper sources stay so."
    )
    normalize_before_submit: bool = Field(
        default=True,
        title="Normalize before submitting",
        description="Off gives a cloud engine the source's own bytes.",
    )


class GpuSettings(Value):
    """How this machine's GPU is used."""

    auto_detect: bool = Field(
        default=True, title="Look for a GPU", description="Off leaves it alone unless asked for."
    )
    clear_cache_between_jobs: bool = Field(
        default=True, title="Clear its cache", description="Give memory back between tracks."
    )
    fallback_to_cloud_on_oom: bool = Field(
        default=True,
        title="Cloud when memory runs out",
        description="Once no smaller plan is left, and only with an API configured.",
    )


class LoggingSettings(Value):
    """What is logged."""

    level: UpperLevel = Field(default="INFO", title="Level", description="The least that is shown.")
    log_retries: bool = Field(
        default=True, title="Log retries", description="Each one, with its reason and its wait."
    )
    log_vram_usage: bool = Field(
        default=True, title="Log GPU memory", description="Its peak, after each track."
    )


Stage = Literal["ingest", "normalize", "separate", "validate", "score", "record"]


def _retries(default: int, stage: Stage) -> Any:
    return Field(
        default=default,
        ge=0,
        le=50,
        title=f"Retries of {stage}",
        description="Of what can pass by itself; the rest is never retried.",
    )


class RunSettings(Value):
    """How a catalog is worked through."""

    jobs: int = Field(
        default=0, ge=0, le=1024, title="Jobs", description="Tracks beside the device; 0 chooses."
    )
    window: int = Field(
        default=0, ge=0, le=100_000, title="Window", description="Tracks in flight; 0 chooses."
    )
    batch_size: int = Field(
        default=0, ge=0, le=1000, title="Batch", description="Tracks a stage task; 0 chooses."
    )
    ingest_retries: int = _retries(2, "ingest")
    normalize_retries: int = _retries(1, "normalize")
    separate_retries: int = _retries(2, "separate")
    validate_retries: int = _retries(1, "validate")
    score_retries: int = _retries(1, "score")
    record_retries: int = _retries(3, "record")
    retry_delay_seconds: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        title="First wait",
        description="Before a stage's retry, in seconds; doubled each time.",
    )

    def retries(self, stage: Stage) -> int:
        """How often a stage's task is tried again."""
        return int(getattr(self, f"{stage}_retries"))
