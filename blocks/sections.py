"""The sections of the settings: every key that YAML, the environment and the Blocks share.

Zero and the empty string stand for "let Stemwright choose", so that no form needs a null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr

from tasks import contracts
from tasks.contracts import Provider, Value, Workload, WrittenBitDepth

EXAMPLE_BASE_URL = "https://api.example.com/v1"
"""The address in the article's template: it stands for an API and is none."""


def _from_json(value: Any) -> Any:
    """A text as the JSON that it holds: an environment variable can hold nothing else."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        # json's own error keeps the whole text, keys included.
        raise ValueError("must be JSON") from None


def _options(value: Any) -> Any:
    """Texts, as options are: YAML reads some of them as numbers."""
    found = _from_json(value)
    if not isinstance(found, Mapping):
        return found
    plain = int | float
    return {
        key: str(item) if isinstance(item, plain) and not isinstance(item, bool) else item
        for key, item in found.items()
    }


def _services(value: Any) -> Any:
    found = _from_json(value)
    if not isinstance(found, list | tuple):
        return found
    # A key without a value isn't set, here as everywhere.
    return tuple(
        {key: item for key, item in one.items() if item is not None}
        if isinstance(one, Mapping)
        else one
        for one in found
    )


def _clean_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()
    if not (key.isascii() and all("!" <= char <= "~" for char in key)):
        raise ValueError("holds a character that no API key has, such as a space or a line break")
    return SecretStr(key)


def _clean_base_url(value: str) -> str:
    url = value.strip().rstrip("/")
    if not url:
        return ""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("holds a user name or a password; a key belongs in engine.api_key")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(f"must be an address such as {EXAMPLE_BASE_URL}")
    return url


def _clean_name(value: str) -> str:
    if not value.replace("-", "").replace("_", "").replace(".", "").isalnum() and value:
        raise ValueError("must be made of letters, digits, dots, dashes and underscores")
    return value


ServiceName = Literal["stemwright", "lalal", "music_ai", "audioshake", "replicate", "fal"]
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


class CloudApi(Value):
    """A separation service: which one, where it is, its key, its patience, and what it may cost."""

    model_config = ConfigDict(hide_input_in_errors=True)

    service: ServiceName = Field(
        default="stemwright",
        title="Service",
        description="Whose API it is; stemwright is what `stemwright endpoint` serves.",
    )
    api_key: Annotated[SecretStr, AfterValidator(_clean_key)] = Field(
        default=SecretStr(""), title="API key", description="Sent to the API's own origin only."
    )
    base_url: Annotated[str, AfterValidator(_clean_base_url)] = Field(
        default="",
        title="Base URL",
        description="Up to and without /separate. Empty is the service's published address.",
    )
    service_options: Annotated[dict[str, str], BeforeValidator(_options)] = Field(
        default={}, title="Options", description="Of this service, such as its model or workflow."
    )
    name: Annotated[str, AfterValidator(_clean_name)] = Field(
        default="",
        max_length=40,
        title="Name",
        description="What reports and limits call it; empty is the service's own name.",
    )
    max_retries: int = Field(
        default=20, ge=0, le=1000, title="Retries", description="Of one request or poll, at most."
    )
    backoff_multiplier: float = Field(
        default=1.5, ge=1, le=10, title="Backoff multiplier", description="Of the wait, each time."
    )
    max_backoff_seconds: float = Field(
        default=30.0, gt=0, le=3600, title="Longest wait", description="Between polls, in seconds."
    )
    usd_per_minute: float = Field(
        default=0.0,
        ge=0,
        title="Price",
        description="Dollars a minute of audio; 0 goes by the service's published price.",
    )
    limit_minutes: float = Field(
        default=0.0, ge=0, title="Limit, minutes", description="Of audio a period; 0 is no limit."
    )
    limit_usd: float = Field(
        default=0.0, ge=0, title="Limit, dollars", description="A period; 0 is no limit."
    )
    limit_period: Literal["day", "month"] = Field(
        default="month", title="Period", description="Of the limits, by UTC."
    )

    @property
    def label(self) -> str:
        """What reports, logs and limits call it."""
        return self.name or self.service

    @property
    def missing(self) -> str:
        """What stands in the way of asking it, as in "its api_key is not set"; or nothing."""
        if not self.api_key.get_secret_value() and not self._may_be_keyless:
            return "its api_key is not set"
        if self.service != "stemwright":
            return ""
        if not self.base_url:
            return "its base_url is not set"
        return "its base_url is the article's example" if self._is_example else ""

    @property
    def _may_be_keyless(self) -> bool:
        """`stemwright endpoint` without keys listens on the loopback, and nowhere else."""
        from tasks.separation.cloud.origins import is_on_loopback

        return self.service == "stemwright" and is_on_loopback(self.base_url)

    @property
    def _is_example(self) -> bool:
        return self.base_url == EXAMPLE_BASE_URL


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
