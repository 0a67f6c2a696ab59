"""The values that travel between stages, and the policies that steer them.

All are small, frozen pydantic models with paths and hashes in them, never audio, so that they
cross threads, processes and machines. Seconds end in `_s`, hertz in `_hz`, decibels in `_db`.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tasks.errors import StemwrightError
from tasks.paths import shown

SAMPLE_RATE_HZ = 44_100
CHANNELS = 2
STEMS = ("drums", "bass", "other", "vocals")

NOTHING_DBFS = -90.0
"""The RMS at which audio holds nothing: 16-bit dither alone lies at -96, quiet recordings above."""

UNDER_MIXTURE_DB = 40.0
"""How far under a mixture a stem has to be, however low it is, to be called silent."""

Verdict = Literal["pass", "review", "fail"]
EngineName = Literal["local_gpu", "local_cpu", "cloud"]
Provider = Literal["auto", "local_gpu", "cloud", "local_cpu"]
Workload = Literal["realtime", "batch", "development", "budget"]
PrecisionClass = Literal["fp32", "fp16", "bf16"]
StemFormat = Literal["flac", "wav"]
BitDepth = Literal["16", "24", "32f"]


def _finite(value: float | None) -> float | None:
    # JSON has no infinities: what can't be measured is null.
    return value if value is None or math.isfinite(value) else None


def _depth_as_text(value: object) -> object:
    # YAML reads `bit_depth: 16` as a number.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _listed(value: object) -> object:
    # `"vocals, drums"`: variables and command lines hold only text.
    if isinstance(value, str):
        return tuple(name for part in value.split(",") if (name := part.strip()))
    return value


def _code_page(name: str) -> str:
    if not name:
        return name
    try:
        "a".encode(name)  # to look it up would find rot13 and hex too
    except (LookupError, ValueError) as error:
        raise ValueError("must be an encoding of text, as cp1251 or shift_jis") from error
    return codecs.lookup(name).name


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError("must be a network, as 10.20.0.0/16 or fd00::/8") from error


def _host_pattern(text: str) -> str:
    name = text.strip().rstrip(".").lower()
    if not re.fullmatch(r"(\*\.)?[\w-]+(\.[\w-]+)*", name) and not _is_address(name):
        raise ValueError("must be a host's name, as nas.example.org or *.example.org")
    return name


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


WrittenBitDepth = Annotated[BitDepth, BeforeValidator(_depth_as_text)]
HostPattern = Annotated[str, AfterValidator(_host_pattern)]
Network = Annotated[str, AfterValidator(_network)]
CodePage = Annotated[str, AfterValidator(_code_page)]
MaybeFloat = Annotated[float | None, AfterValidator(_finite)]


class Value(BaseModel):
    """A frozen value that refuses fields it doesn't know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- policies ---------------------------------------------------------------------------------


class IngestPolicy(Value):
    """What may be fetched, and how hard to try."""

    max_bytes: int = Field(
        default=4 * 1024**3, gt=0, title="Largest source", description="In bytes."
    )
    max_duration_s: float = Field(
        default=4 * 3600.0, gt=0, title="Longest track", description="In seconds."
    )
    min_duration_s: float = Field(
        default=0.1, ge=0, title="Shortest track", description="In seconds."
    )
    timeout_s: float = Field(
        default=1800.0, gt=0, title="Time limit of a download", description="In seconds, in all."
    )
    stall_timeout_s: float = Field(
        default=20.0, gt=0, title="Stall limit", description="Seconds without a byte."
    )
    max_retries: int = Field(
        default=3, ge=0, le=50, title="Retries", description="Of one download."
    )
    requests_per_second_per_host: float = Field(
        default=4.0, gt=0, title="Requests a second", description="To any one host."
    )
    allow_private_addresses: bool = Field(
        default=False,
        title="Allow private addresses",
        description="Whoever may start a run may then reach every host that this machine can.",
    )
    allow_hosts: tuple[HostPattern, ...] = Field(
        default=(),
        title="Private hosts allowed",
        description="Names, as nas.example.org or *.example.org, that may lead anywhere.",
    )
    allow_networks: tuple[Network, ...] = Field(
        default=(),
        title="Private networks allowed",
        description="Networks, as 10.20.0.0/16, that any host may lead to.",
    )
    offline: bool = Field(
        default=False, title="Offline", description="Refuse whatever needs a network."
    )
    tag_encoding: CodePage = Field(
        default="",
        title="Code page of old tags",
        description="For example cp1251 or shift_jis, where a tag isn't UTF-8 or UTF-16; empty is "
        "Windows-1252.",
    )


class DamagePolicy(Value):
    """What becomes of a source that is damaged: frames that can't be decoded, or aren't there."""

    damaged: Literal["accept", "refuse"] = Field(
        default="accept",
        title="Damaged sources",
        description="Accept fills gaps with silence and asks for a review; refuse fails the track.",
    )
    max_damaged_s: float = Field(
        default=0.0,
        ge=0,
        title="Most damage",
        description="Accepted, in seconds; 0 is 1 s or 1 % of the track, whichever is more.",
    )


class AudioPolicy(DamagePolicy):
    """The lossless audio between the stages."""

    sample_rate_hz: int = Field(default=SAMPLE_RATE_HZ, ge=8_000, le=192_000)
    bit_depth: BitDepth = Field(
        default="24", title="Bit depth", description="At least this; a deeper source keeps its own."
    )
    min_duration_s: float = 0.1
    max_duration_s: float = 4 * 3600.0


class SeparationSettings(Value):
    """What to make of each mixture."""

    model: str = Field(
        default="htdemucs",
        min_length=1,
        title="Model",
        description="A name that `stemwright models list` shows.",
    )
    stems: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(), title="Stems to keep", description="None means every stem of the model."
    )
    overlap: float = Field(
        default=0.25, ge=0, lt=1, title="Overlap", description="Of neighbouring segments."
    )
    shifts: int = Field(
        default=0, ge=0, le=20, title="Shifts", description="Shifted passes to average; 0 is exact."
    )
    seed: int = Field(default=0, ge=0, title="Seed", description="Of the shifts.")
    format: StemFormat = Field(
        default="flac", title="File format", description="Of the stems; both are lossless."
    )
    bit_depth: WrittenBitDepth = Field(
        default="24",
        title="Bit depth",
        description="Of the stems, where not said: audio.bit_depth's. 32f is for WAV only.",
    )


class LocalOptions(Value):
    """How a model is run on this machine, where there is a choice."""

    precision: PrecisionClass | Literal["auto"] = Field(
        default="auto",
        title="Precision",
        description="Auto is fp16 on CUDA, with what is fragile in fp32, and fp32 elsewhere.",
    )
    batch: int = Field(
        default=0,
        ge=0,
        le=256,
        title="Segments at once",
        description="Of all tracks in flight; 0 goes by the device's memory.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        title="Compile",
        description="Auto compiles where that was measured to pay, once the tracks so far have "
        "cost as much as compiling.",
    )
    openvino: Literal["auto", "on", "off"] = Field(
        default="auto",
        title="OpenVINO on a CPU",
        description="Auto uses it where it is installed (stemwright[openvino]), agrees with torch "
        "and is faster.",
    )


class CompletenessPolicy(Value):
    """When a stem set counts as whole."""

    max_residual_db: float = Field(
        default=2.0,
        title="Largest residual",
        description="Mixture minus the sum of stems, relative to the mixture, in dB. The model's "
        "own residual is a matter of quality; above this the stems aren't of this mixture.",
    )
    silence_dbfs: float = Field(
        default=-70.0,
        le=0,
        title="Silence",
        description="RMS of a silent stem, in dBFS; it has to be 40 dB under the mixture too.",
    )


class QualityThresholds(Value):
    """Scores under `fail` fail, under `review` ask for a listener."""

    review: float = Field(
        default=0.60, ge=0, le=1, title="Review", description="Lower scores ask for a listener."
    )
    fail: float = Field(default=0.30, ge=0, le=1, title="Fail", description="Lower scores fail.")

    def narrowed(self, override: ThresholdOverride) -> QualityThresholds:
        """With what an override sets; where the two would cross, the inherited one gives way."""
        review = self.review if override.review is None else override.review
        fail = self.fail if override.fail is None else override.fail
        if override.review is None:
            review = max(review, fail)
        return QualityThresholds(review=review, fail=min(fail, review))


class ThresholdOverride(Value):
    """Thresholds for some stems or tracks only; what isn't set is inherited."""

    review: float | None = Field(
        default=None, ge=0, le=1, title="Review", description="Lower scores ask for a listener."
    )
    fail: float | None = Field(
        default=None, ge=0, le=1, title="Fail", description="Lower scores fail."
    )

    @model_validator(mode="after")
    def _in_order(self) -> ThresholdOverride:
        if self.review is not None and self.fail is not None and self.fail > self.review:
            raise ValueError("fail must not be above review")
        return self


def _mapping(value: object) -> object:
    # An environment variable gives a mapping as JSON.
    return json.loads(value) if isinstance(value, str) else value


Overrides = Annotated[dict[str, ThresholdOverride], BeforeValidator(_mapping)]


class QualityPolicy(Value):
    """How a score becomes a verdict.

    The overrides are keyed by the names of stems, models and genres, whatever their case. Where
    several set the same threshold, the stem's wins over the genre's, the genre's over the model's,
    and the model's over `thresholds`. A threshold that is inherited gives way where it would cross
    one that is set.
    """

    thresholds: QualityThresholds = Field(
        default=QualityThresholds(), title="Thresholds", description="Of the score, 0 to 1."
    )
    per_stem: Overrides = Field(
        default={},
        title="Thresholds of single stems",
        description="For example vocals: {review: 0.5}. They win over a genre's and a model's.",
    )
    per_genre: Overrides = Field(
        default={},
        title="Thresholds of single genres",
        description="By the catalog's or the tags' genre. They win over a model's.",
    )
    per_model: Overrides = Field(
        default={}, title="Thresholds of single models", description="By the model's name."
    )
    absent_stem_db: float = Field(
        default=-30.0,
        title="Absent stem",
        description="A stem this far under the mixture (dB) is absent: no score, no failure.",
    )
    residual_review_db: float = Field(
        default=-15.0,
        title="Residual that asks for a review",
        description="Mixture minus the sum of stems, relative to the mixture, in dB.",
    )
    residual_fail_db: float = Field(
        default=-10.0,
        title="Residual that fails",
        description="Mixture minus the sum of stems, relative to the mixture, in dB.",
    )

    def thresholds_for(
        self, stem: str = "", *, model: str = "", genre: str = ""
    ) -> QualityThresholds:
        """The thresholds that hold for a stem; without a stem's name, for the track."""
        found = self.thresholds
        narrowing = ((self.per_model, model), (self.per_genre, genre), (self.per_stem, stem))
        for overrides, name in narrowing:
            for key, override in overrides.items():
                if name and key.casefold() == name.casefold():
                    found = found.narrowed(override)
        return found


# --- what travels -----------------------------------------------------------------------------


def track_label(artist: str | None, title: str | None, source: str | None) -> str:
    """Return a track as a person names it: "Artist – Title", or the end of its source."""
    named = " – ".join(part for part in (artist, title) if part)
    return (named or _end_of(source or ""))[:120]


def _end_of(source: str) -> str:
    """The last part of a path, or of a URL: that decoded, its query shown if it has no suffix."""
    if not source.startswith(("http://", "https://")):
        source = shown(source)
        return source.rstrip("/").rsplit("/", 1)[-1] or source
    path, _, query = source.partition("#")[0].partition("?")
    end = unquote(path.rstrip("/").rsplit("/", 1)[-1])
    return f"{end}?{query}" if query and "." not in end else end


class Tags(Value):
    """What a file's own tags, or the page that it came from, say of it.

    `guessed` names the fields that only the file's name told.
    """

    title: str = ""
    artist: str = ""
    album: str = ""
    genre: str = ""
    isrc: str = ""
    extra: dict[str, str] = {}
    guessed: tuple[str, ...] = ()


class TrackRef(Value):
    """A row of a catalog: where a track is, and what the catalog says of it.

    `source` is the absolute path or the URL; `kind` names its kind in `tasks.sources`. `origin`
    says where the row came from ("songs.csv, row 12"). `extra` holds the catalog's other columns,
    as given. `address` is what is fetched, where that takes more than people should see; no report
    has it.
    """

    source: str
    kind: str
    title: str = ""
    artist: str = ""
    album: str = ""
    genre: str = ""
    isrc: str = ""
    extra: dict[str, str] = {}
    origin: str = ""
    address: str = Field(default="", exclude=True, repr=False)

    @property
    def label(self) -> str:
        return track_label(self.artist, self.title, self.source)

    def words(self, tags: Tags) -> Tags:
        """What the catalog says of the track and, where it says nothing, what its tags say."""
        names = Tags.model_fields.keys() - {"extra", "guessed"}
        given = {name: text for name in names if (text := getattr(self, name))}
        guessed = tuple(name for name in tags.guessed if name not in given)
        extra = tags.extra | self.extra
        return tags.model_copy(update={**given, "extra": extra, "guessed": guessed})

    @property
    def key(self) -> str:
        """Sixteen hex digits of the source's hash: a safe name for scratch folders."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class SourceAudio(Value):
    """Bytes on the local disk, as fetched: `path` is the user's own file or one in scratch.

    `fingerprint` changes when the source may have changed (size and time of a file, an ETag);
    empty where nothing cheap tells.
    """

    ref: TrackRef
    path: Path
    in_scratch: bool
    bytes: int
    fingerprint: str = ""
    tags: Tags = Tags()

    @property
    def words(self) -> Tags:
        return self.ref.words(self.tags)


class SourceFormat(Value):
    """What the source was, before normalization."""

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    channel_layout: str = ""
    bit_depth: BitDepth | Literal["8", "32", "64f"] | None = None
    bit_rate_bps: int | None = None
    lossy: bool


class Mixture(Value):
    """A track as lossless audio at the model's rate, ready to be separated.

    `frames` counts sample frames. `gain` is what the samples were multiplied by to keep them
    from clipping (1.0 for all but overs). `notes` are sentences on whatever was not one to one:
    a downmix, a bit depth, a gain, damage. `source_promised_s` is the length by the source's header
    where that isn't what it holds; `source_damaged_s` is what was lost of it, in `source_damages`
    places, as far as the seconds are known. `source_path` is the source's own bytes, where they
    are on this disk and stay, or are kept for an upload; no report has it.
    """

    ref: TrackRef
    track_id: str
    path: Path
    sample_rate_hz: int
    channels: int
    frames: int
    bit_depth: BitDepth
    gain: float = 1.0
    peak: float
    silent: bool
    source: SourceFormat
    source_bytes: int = 0
    fingerprint: str = ""
    tags: Tags = Tags()
    notes: tuple[str, ...] = ()
    source_promised_s: float | None = None
    source_damaged_s: float = 0.0
    source_damages: int = 0
    source_path: Path | None = Field(default=None, exclude=True)

    @property
    def duration_s(self) -> float:
        return self.frames / self.sample_rate_hz

    def credited_to(self, audio: SourceAudio) -> Mixture:
        """The same as the mixture of another source with the same audio."""
        known = {"ref": audio.ref, "tags": audio.tags, "fingerprint": audio.fingerprint}
        return self.model_copy(update={**known, "source_bytes": audio.bytes})


class StemSet(Value):
    """The stems that a separation wrote, all multiplied by one common `gain`.

    `expected` are the names that were asked for; `stems` maps those that exist to their files.
    `stem_origins` says which engine made which stem, `route` which engines were asked, in order,
    with the reason where one handed the track on. `backend`, `precision` and `batch` say how this
    machine ran the network; the peaks are those of its process and device so far.
    """

    track_id: str
    separation_id: str
    model: str
    weights_sha256: str
    expected: tuple[str, ...]
    stems: dict[str, Path]
    all_stems: bool = True
    sample_rate_hz: int
    channels: int
    frames: int
    gain: float = 1.0
    engine: EngineName
    provider: str
    device: str
    device_reasons: tuple[str, ...] = ()
    stem_origins: dict[str, str] = {}
    route: tuple[str, ...] = ()
    separation_s: float
    attempts: int = 1
    cost_usd: float = 0.0
    backend: str = ""
    precision: str = ""
    batch: int = 0
    peak_vram_bytes: int | None = None
    peak_rss_bytes: int | None = None


class StemCheck(Value):
    """What validation found in one stem's file."""

    name: str
    path: Path
    sha256: str
    bytes: int
    frames: int
    silent: bool
    peak_dbfs: MaybeFloat
    rms_dbfs: MaybeFloat
    clipped_samples: int
    energy_share: MaybeFloat
    problems: tuple[str, ...] = ()


class Completeness(Value):
    """Whether a stem set is whole: exactly the stems expected, each sound, summing to the mixture.

    `missing` counts broken stems too: what has to be made again. `residual_db` is null when not
    every stem of the model was kept (the sum then means nothing) or the mixture is silent.
    """

    expected: tuple[str, ...]
    present: tuple[str, ...]
    missing: tuple[str, ...]
    silent: tuple[str, ...]
    problems: tuple[str, ...]
    stems: dict[str, StemCheck]
    residual_db: MaybeFloat

    @property
    def complete(self) -> bool:
        return not self.missing and not self.problems

    @property
    def in_words(self) -> str:
        """What is wrong, without a full stop."""
        return ("; ".join(self.problems) or f"missing: {', '.join(self.missing)}").rstrip(".")


class Reason(Value):
    """Why a verdict is below pass: a code, a sentence, the value, and where it is worst."""

    code: str
    sentence: str
    stem: str = ""
    value: MaybeFloat = None
    start_s: MaybeFloat = None
    end_s: MaybeFloat = None


class Estimate(Value):
    """How good something is, estimated without ground truth. `reasons` are codes.

    Between `estimated_si_sdr_low_db` and `…_high_db` the true SI-SDR lies four times in five.
    `warnings` are oddities too uncertain to change a verdict. `percentile` (0 to 100) and
    `robust_z` say where the score stands in a population of this library, `population`, of
    `population_size`; null and empty before `review` has made one.
    """

    score: MaybeFloat
    verdict: Verdict
    estimated_si_sdr_db: MaybeFloat
    reasons: tuple[str, ...]
    details: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()
    estimated_si_sdr_low_db: MaybeFloat = None
    estimated_si_sdr_high_db: MaybeFloat = None
    assignment_entropy: MaybeFloat = None
    bleed_db: MaybeFloat = None
    measures: dict[str, MaybeFloat] = {}
    percentile: MaybeFloat = None
    robust_z: MaybeFloat = None
    population: str = ""
    population_size: int = 0


class StemQuality(Estimate):
    """How well one stem came out. `score` is null for an absent stem.

    `costs_db` is what each measure took from the estimate.
    """

    absent: bool = False
    silent: bool = False
    spectral_entropy: MaybeFloat = None
    spectral_entropy_delta: MaybeFloat = None
    spectral_flatness: MaybeFloat = None
    bandwidth_hz: MaybeFloat = None
    bleed_from: str = ""
    costs_db: dict[str, float] = {}


class QualityReport(Estimate):
    """How well a separation came out, over all of its stems."""

    stems: dict[str, StemQuality]
    residual_db: MaybeFloat = None
    spectral_entropy_mixture: MaybeFloat = None
    spectral_entropy_delta_mean: MaybeFloat = None

    @property
    def every_detail(self) -> tuple[Reason, ...]:
        """The details of the track and of its stems, each once."""
        own = (detail for stem in self.stems.values() for detail in stem.details)
        return tuple(dict.fromkeys((*self.details, *own)))

    @property
    def every_warning(self) -> tuple[Reason, ...]:
        """The same for what is too uncertain to change a verdict."""
        own = (warning for stem in self.stems.values() for warning in stem.warnings)
        return tuple(dict.fromkeys((*self.warnings, *own)))


class Run(Value):
    """Which run made a report."""

    run_id: str = ""
    flow_run_name: str = ""
    stemwright_version: str = ""


class TrackReport(Value):
    """`report.json`: all that is known of one separation. Paths are relative to its folder.

    `guessed` names those of its fields that only the file's name told.
    """

    schema_version: int = 1
    track_id: str
    separation_id: str
    source: str
    fingerprint: str = ""
    aliases: tuple[str, ...] = ()
    title: str = ""
    artist: str = ""
    album: str = ""
    genre: str = ""
    isrc: str = ""
    extra: dict[str, str] = {}
    guessed: tuple[str, ...] = ()
    duration_s: float
    mixture: Mixture
    settings: SeparationSettings
    stem_set: StemSet
    completeness: Completeness
    quality: QualityReport
    pipeline_s: float
    attempts: int = 1
    run: Run = Run()
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def label(self) -> str:
        return track_label(self.artist, self.title, self.source)

    def credited_to(self, audio: SourceAudio) -> TrackReport:
        """The same as the report of another source with the same audio."""
        known = {"source": audio.ref.source, "fingerprint": audio.fingerprint}
        mixture = self.mixture.credited_to(audio)
        return self.model_copy(update={**dict(audio.words), **known, "mixture": mixture})

    @property
    def realtime_factor(self) -> float:
        """Seconds of audio a second of separation."""
        spent = self.stem_set.separation_s
        return self.duration_s / spent if spent > 0 else 0.0


class Failure(Value):
    """One failed attempt at one track: a row of `reports/failures`, its fields in this order."""

    track_id: str | None = None
    source: str
    stage: str
    error_type: str
    message: str
    retryable: bool
    attempt: int = 1
    run_id: str = ""
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    label: str = ""
    remedy: str = ""
    input_error: bool = False
    fingerprint: str = ""

    def is_a(self, *kinds: type[StemwrightError]) -> bool:
        """Tell whether its cause was an error of one of these very classes."""
        return self.error_type in {kind.__name__ for kind in kinds}

    @classmethod
    def of(
        cls,
        error: StemwrightError,
        ref: TrackRef | None = None,
        *,
        track_id: str | None = None,
        label: str = "",
        attempt: int = 1,
        run_id: str = "",
        fingerprint: str = "",
    ) -> Failure:
        from tasks.errors import InputError

        return cls(
            source=ref.source if ref else error.track,
            label=label or (ref.label if ref else error.track),
            track_id=track_id,
            stage=error.stage,
            error_type=type(error).__name__,
            message=error.cause,
            remedy=error.remedy,
            retryable=error.retryable,
            input_error=isinstance(error, InputError),
            fingerprint=fingerprint,
            attempt=attempt,
            run_id=run_id,
        )


class SeparationJob(BaseModel):
    """A separation that was asked for, as the API of `INTERFACES.md` section 5 answers it.

    For a local engine `stems` maps names to paths, for a cloud one to URLs. Further fields of an
    answer are ignored.
    """

    model_config = ConfigDict(extra="ignore")

    job_id: str = Field(min_length=1)
    status: Literal["queued", "processing", "complete", "failed"]
    stems: dict[str, str] | None = None
    error_message: str | None = None


class AudioSource(BaseModel):
    """An audio file to separate, and the format its stems are wanted in."""

    file_path: Path
    format: str = "wav"
    sample_rate: int = SAMPLE_RATE_HZ


Progress = Callable[[float], None]
"""Called with the finished share of a track's separation, 0 to 1."""
