"""All settings of a run: `load_settings` merges every source and tells where each value is from.

Precedence: command line, environment, file, Prefect Block, default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, model_validator

from blocks import settings_sources
from blocks.sections import (
    AudioSettings,
    EngineSettings,
    GpuSettings,
    LibraryUrl,
    LoggingSettings,
    RunSettings,
)
from blocks.settings_sources import BlockLike, SourcedValue
from blocks.validation_errors import (
    Problem,
    settings_error,
    wrong_kind,
    wrong_value,
)
from tasks import contracts
from tasks.contracts import Value
from tasks.errors import SettingsError
from tasks.separation.factory import EngineOptions
from tasks.separation.services import CloudApi

DEFAULT_FILE = Path("stemwright.yaml")


class StemwrightSettings(Value):
    """Everything that can be configured; the sections are the YAML's."""

    engine: EngineSettings = Field(
        default=EngineSettings(), title="Engine", description="What separates."
    )
    audio: AudioSettings = Field(
        default=AudioSettings(), title="Audio", description="The audio that is separated."
    )
    gpu: GpuSettings = Field(
        default=GpuSettings(), title="GPU", description="How this machine's GPU is used."
    )
    local: contracts.LocalOptions = Field(
        default=contracts.LocalOptions(),
        title="Local",
        description="How a model is run on this machine.",
    )
    logging: LoggingSettings = Field(
        default=LoggingSettings(), title="Logging", description="What is logged."
    )
    separation: contracts.SeparationSettings = Field(
        default=contracts.SeparationSettings(),
        title="Separation",
        description="What to make of each mixture.",
    )
    ingest: contracts.IngestPolicy = Field(
        default=contracts.IngestPolicy(), title="Ingest", description="What may be fetched."
    )
    normalize: contracts.DamagePolicy = Field(
        default=contracts.DamagePolicy(),
        title="Normalize",
        description="What becomes of damaged sources.",
    )
    quality: contracts.QualityPolicy = Field(
        default=contracts.QualityPolicy(), title="Quality", description="From score to verdict."
    )
    completeness: contracts.CompletenessPolicy = Field(
        default=contracts.CompletenessPolicy(),
        title="Completeness",
        description="When a stem set counts as whole.",
    )
    library: LibraryUrl = "./library"
    run: RunSettings = Field(
        default=RunSettings(), title="Run", description="How a catalog is worked through."
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _unset_key_variables: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _stems_follow_the_mixture(cls, data: Any) -> Any:
        # `audio.bit_depth: 16` in the article means its stems too.
        if not isinstance(data, Mapping):
            return data
        audio, separation = data.get("audio"), data.get("separation", {})
        if not isinstance(audio, Mapping) or not isinstance(separation, Mapping):
            return data
        floats_in_flac = audio.get("bit_depth") == "32f" and separation.get("format") != "wav"
        if "bit_depth" not in audio or "bit_depth" in separation or floats_in_flac:
            return data
        return {**data, "separation": {**separation, "bit_depth": audio["bit_depth"]}}

    @model_validator(mode="after")
    def _fits_together(self) -> StemwrightSettings:
        thresholds = self.quality.thresholds
        contradictions = {
            "separation.bit_depth: FLAC holds no floats; set separation.format to wav, or a depth "
            "of 16 or 24": (self.separation.format, self.separation.bit_depth) == ("flac", "32f"),
            "quality.thresholds.fail: must not be above quality.thresholds.review": (
                thresholds.fail > thresholds.review
            ),
            "quality.residual_fail_db: must not be under quality.residual_review_db": (
                self.quality.residual_fail_db < self.quality.residual_review_db
            ),
            "ingest.min_duration_s: must not be above ingest.max_duration_s": (
                self.ingest.min_duration_s > self.ingest.max_duration_s
            ),
            "engine.alternatives: two services have the same name; set the name of one": (
                len({one.label for one in self.engine.services}) < len(self.engine.services)
            ),
        }
        if wrong := [sentence for sentence, holds in contradictions.items() if holds]:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def models_dir(self) -> Path | None:
        """The folder of models that was set, or None for the usual one."""
        return Path(self.engine.models_dir).expanduser() if self.engine.models_dir else None

    @property
    def services(self) -> tuple[CloudApi, ...]:
        """The services in the order in which they are asked, those not set up included."""
        return self.engine.services

    @property
    def cloud_configured(self) -> bool:
        """Whether there is a service to ask: a key, and an address that isn't the template's."""
        return any(not service.missing for service in self.services)

    def require_cloud(self) -> None:
        """Check that a service can be asked.

        Raises:
            SettingsError: What is missing: the key (and its variable's name), or the address.
        """
        if self.cloud_configured:
            return
        if not self.engine.api_key.get_secret_value():
            variables = " and ".join(self._unset_key_variables)
            raise SettingsError(
                f"{variables} is not set." if variables else "engine.api_key is not set.",
                remedy=f"Set {variables or 'STEMWRIGHT_ENGINE__API_KEY'} to the service's key.",
            )
        stands = "is the article's example" if self.engine.base_url else "is not set"
        raise SettingsError(
            f"engine.base_url {stands}.", remedy="Set it to the address of your service."
        )

    def engine_options(self) -> EngineOptions:
        """What the engines of a run are made from.

        Raises:
            SettingsError: A service is asked for, and none is set up.
        """
        engine = self.engine
        if engine.provider == "cloud":
            self.require_cloud()
        return EngineOptions(
            settings=self.separation,
            provider=engine.provider,
            # Without a workload of the user's choice: a GPU, else a service, else the CPU.
            workload=engine.workload if "engine.workload" in self.sources() else None,
            services=self.services,
            fallback_to_local=engine.fallback_to_local,
            cloud_after_oom=self.gpu.fallback_to_cloud_on_oom,
            cloud_jobs=engine.cloud_jobs,
            upload_format=self.audio.input_format,
            upload_own_bytes=not self.audio.normalize_before_submit,
            log_retries=self.logging.log_retries,
            models_dir=self.models_dir,
            offline=engine.offline,
            auto_detect=self.gpu.auto_detect,
            clear_cache_between_jobs=self.gpu.clear_cache_between_jobs,
            log_vram_usage=self.logging.log_vram_usage,
            local=self.local,
        )

    def audio_policy(self) -> contracts.AudioPolicy:
        """What normalization makes of a source."""
        return contracts.AudioPolicy(
            sample_rate_hz=self.audio.sample_rate,
            bit_depth=self.audio.bit_depth,
            min_duration_s=self.ingest.min_duration_s,
            max_duration_s=self.ingest.max_duration_s,
            **self.normalize.model_dump(),
        )

    def ingest_policy(self) -> contracts.IngestPolicy:
        """What may be fetched; `engine.offline` means it too."""
        offline = self.ingest.offline or self.engine.offline
        return self.ingest.model_copy(update={"offline": offline})

    def secrets(self) -> tuple[SecretStr, ...]:
        """What must never be shown, for `install_redaction`."""
        keys = [one.api_key for one in (self.engine, *self.engine.alternatives)]
        return tuple(key for key in keys if key.get_secret_value())

    def sources(self) -> dict[str, str]:
        """Where each key that was set comes from; keys that stand at their default aren't in it."""
        return dict(self._origins)


def load_settings(
    config: Path | None = None,
    overrides: Mapping[str, Any] = {},
    *,
    environ: Mapping[str, str] | None = None,
    block: str | BlockLike | Sequence[str | BlockLike] | None = None,
) -> StemwrightSettings:
    """The settings of a run.

    Args:
        config: A YAML file; without one, `./stemwright.yaml` if it exists.
        overrides: The command line's choices, nested as the YAML is; None means not given.
        environ: The environment, where it isn't this process's.
        block: A Block, or the name of a saved one such as `cloud-separation-api/prod`; or several,
            the later winning.

    Raises:
        SettingsError: All that is wrong, a line each, with the key, what was given and where.
    """
    environ = os.environ if environ is None else environ
    if config is None and DEFAULT_FILE.is_file():
        config = DEFAULT_FILE
    stack = [settings_sources.from_block(one, StemwrightSettings) for one in _several(block)]
    if config is not None:
        stack.append(settings_sources.from_file(config, StemwrightSettings, environ))
    stack.append(settings_sources.from_environment(StemwrightSettings, environ))
    stack.append(settings_sources.from_mapping(overrides, StemwrightSettings, "the command line"))

    if problems := [problem for source in stack for problem in source.problems]:
        raise settings_error(problems)
    return _validated({key: item for source in stack for key, item in source.values.items()})


def _several(block: str | BlockLike | Sequence[str | BlockLike] | None) -> list[str | BlockLike]:
    if block is None:
        return []
    return list(block) if isinstance(block, Sequence) and not isinstance(block, str) else [block]


def _validated(given: Mapping[str, SourcedValue]) -> StemwrightSettings:
    problems = [
        Problem(sentence, item.origin)
        for key, kind in settings_sources.leaves(StemwrightSettings)
        if (item := given.get(key))
        and (sentence := wrong_kind(key, item.value, item.written, kind))
    ]
    if problems:
        raise settings_error(problems)
    try:
        settings = StemwrightSettings.model_validate(settings_sources.nested(given))
    except ValidationError as error:
        problems = _problems(error, given)
    if problems:
        # Raised out here: pydantic's error quotes what it was given, secrets included.
        raise settings_error(problems)
    settings._origins = {key: item.origin for key, item in given.items()}
    if "separation.bit_depth" not in given and "bit_depth" in settings.separation.model_fields_set:
        settings._origins["separation.bit_depth"] = given["audio.bit_depth"].origin
    if key := given.get("engine.api_key"):
        settings._unset_key_variables = key.unset
    return settings


def _problems(error: ValidationError, given: Mapping[str, SourcedValue]) -> list[Problem]:
    found: dict[str, Problem] = {}
    for details in error.errors(include_url=False):
        whole = ".".join(str(part) for part in details["loc"])
        if not whole:
            found[""] = Problem(f"{details['ctx']['error']}.", "")
            continue
        # A location may go on into a value, such as an item of a list.
        path = next((key for key in given if whole == key or whole.startswith(f"{key}.")), "")
        if path and path not in found:
            item = given[path]
            found[path] = Problem(wrong_value(path, details, item.written), item.origin)
    return list(found.values())
