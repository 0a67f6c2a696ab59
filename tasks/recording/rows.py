"""The rows of the tables: the fields of each class, in order, are the columns of its table.

Those of `INTERFACES.md` section 4 come first, in its order, then more. This is the only list of
them: the Parquet schema is made from the annotations (`tasks.recording.tables`), a row from the
fields of a report that have the same names, and whatever shows rows takes them from here. A column
that isn't one of these fields is registered in `tasks.columns`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Self, get_origin

from pydantic import BaseModel, ConfigDict, Field

from tasks.columns import Column, columns_of
from tasks.contracts import (
    Failure,
    MaybeFloat,
    Reason,
    StemCheck,
    TrackReport,
    Value,
    Verdict,
    track_label,
)
from tasks.heard import worst_fault
from tasks.recording.layout import Key, place_of
from tasks.recording.sidecar import plain

log = logging.getLogger(__name__)


class Row(Value):
    """A row of `reports/tracks` or `reports/stems`, with the registered columns as extra fields."""

    model_config = ConfigDict(frozen=True, extra="allow")

    track_id: str = ""
    separation_id: str = ""

    @classmethod
    def read(cls, cells: Mapping[Any, Any]) -> Self:
        """Return the row that a table's cells hold; what is null or missing has its default."""
        return cls(
            **{
                name: json.loads(value) if isinstance(value, str) and is_json(cls, name) else value
                for name, value in cells.items()
                if value is not None and value == value  # pandas' unknown isn't equal to itself
            }
        )

    @property
    def key(self) -> Key:
        return self.track_id, self.separation_id

    @property
    def place(self) -> str:
        """The separation's folder, relative to its library."""
        return place_of(self.track_id, self.separation_id)


class TrackRow(Row):
    """One separation of one track."""

    source: str = ""
    title: str = ""
    artist: str = ""
    album: str = ""
    genre: str = ""
    duration_s: MaybeFloat = None
    source_codec: str | None = None
    source_sample_rate_hz: int | None = None
    source_channels: int | None = None
    source_bit_rate_bps: int | None = None
    source_lossy: bool | None = None
    model: str | None = None
    weights_sha256: str | None = None
    engine: str | None = None
    provider: str | None = None
    device: str | None = None
    stems_expected: tuple[str, ...] = ()
    stems_present: tuple[str, ...] = ()
    complete: bool | None = None
    residual_db: MaybeFloat = None
    assignment_entropy: MaybeFloat = None
    spectral_entropy_mixture: MaybeFloat = None
    spectral_entropy_delta_mean: MaybeFloat = None
    bleed_db: MaybeFloat = None
    score: MaybeFloat = None
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()
    separation_s: MaybeFloat = None
    pipeline_s: MaybeFloat = None
    realtime_factor: MaybeFloat = None
    attempts: int | None = None
    cost_usd: MaybeFloat = None
    run_id: str | None = None
    flow_run_name: str | None = None
    stemwright_version: str | None = None
    created_at: datetime | None = None

    estimated_si_sdr_db: MaybeFloat = None
    stems_silent: tuple[str, ...] = ()
    stem_gain: MaybeFloat = None
    mixture_gain: MaybeFloat = None
    mixture_peak: MaybeFloat = None
    mixture_silent: bool | None = None
    isrc: str = ""
    extra: dict[str, str] = Field(default={})
    notes: tuple[str, ...] = ()
    source_container: str | None = None
    source_channel_layout: str | None = None
    source_bit_depth: str | None = None
    source_bytes: int | None = None
    format: str | None = None
    bit_depth: str | None = None
    fingerprint: str | None = None
    aliases: tuple[str, ...] = ()
    estimated_si_sdr_low_db: MaybeFloat = None
    estimated_si_sdr_high_db: MaybeFloat = None
    percentile: MaybeFloat = None
    robust_z: MaybeFloat = None
    population: str | None = None
    population_size: int | None = None
    warnings: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    backend: str | None = None
    precision: str | None = None
    batch: int | None = None
    peak_vram_bytes: int | None = None
    peak_rss_bytes: int | None = None
    source_promised_s: MaybeFloat = None
    source_damaged_s: MaybeFloat = None
    source_damages: int | None = None
    worst: str = ""
    guessed: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: TrackReport) -> TrackRow:
        """Return the row of a report."""
        mixture, stems, whole = report.mixture, report.stem_set, report.completeness
        quality = report.quality
        residual_db = quality.residual_db if whole.residual_db is None else whole.residual_db
        return cls(
            **_named(cls, mixture, report.settings, stems, whole, quality, report.run, report)
            | _named(cls, mixture.source, prefix="source_")
            | _named(cls, mixture, prefix="mixture_")
            | _named(cls, stems, prefix="stem_")
            | _named(cls, whole, prefix="stems_")
            | {
                "residual_db": residual_db,
                "realtime_factor": report.realtime_factor or None,
                "batch": stems.batch or None,
                "warnings": _codes(quality.warnings),
                "worst": worst_fault(quality.every_detail),
            }
            | _registered("tracks", report)
        )

    @property
    def label(self) -> str:
        return track_label(self.artist, self.title, self.source)


class StemRow(Row):
    """One present stem of a separation."""

    stem: str = ""
    path: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    duration_s: MaybeFloat = None
    silent: bool | None = None
    peak_dbfs: MaybeFloat = None
    rms_dbfs: MaybeFloat = None
    clipped_samples: int | None = None
    energy_share: MaybeFloat = None
    spectral_entropy: MaybeFloat = None
    spectral_entropy_delta: MaybeFloat = None
    spectral_flatness: MaybeFloat = None
    bandwidth_hz: MaybeFloat = None
    bleed_db: MaybeFloat = None
    score: MaybeFloat = None
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()

    estimated_si_sdr_db: MaybeFloat = None
    absent: bool | None = None
    bleed_from: str | None = None
    assignment_entropy: MaybeFloat = None
    origin: str | None = None
    problems: tuple[str, ...] = ()
    run_id: str | None = None
    created_at: datetime | None = None
    estimated_si_sdr_low_db: MaybeFloat = None
    estimated_si_sdr_high_db: MaybeFloat = None
    percentile: MaybeFloat = None
    robust_z: MaybeFloat = None
    population: str | None = None
    population_size: int | None = None
    warnings: tuple[str, ...] = ()
    worst: str = ""

    @classmethod
    def all_of(cls, report: TrackReport) -> list[StemRow]:
        """Return the rows of a report's present stems."""
        checks = report.completeness.stems
        present = report.completeness.present
        return [cls._of(report, checks[name]) for name in present if name in checks]

    @classmethod
    def _of(cls, report: TrackReport, check: StemCheck) -> StemRow:
        quality = report.quality.stems.get(check.name)
        scored = (quality,) if quality else ()
        return cls(
            **_named(cls, report, report.run, *scored, check)
            | {
                "stem": check.name,
                "path": f"{place_of(report.track_id, report.separation_id)}/{check.path.name}",
                "duration_s": check.frames / report.stem_set.sample_rate_hz,
                "origin": report.stem_set.stem_origins.get(check.name),
                "warnings": _codes(quality.warnings if quality else ()),
                "worst": worst_fault(quality.details if quality else ()),
            }
            | _registered("stems", report, check.name)
        )


class Alias(Row):
    """A further row of a catalog, or a further source, with the audio of `track_id`."""

    source: str = ""
    fingerprint: str = ""
    run_id: str = ""
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    title: str = ""
    artist: str = ""
    album: str = ""
    genre: str = ""
    isrc: str = ""
    extra: dict[str, str] = Field(default={})
    guessed: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: TrackReport | TrackRow, run_id: str = "") -> Alias:
        """Return what a report or a row says of its source, before another takes its place."""
        names = cls.model_fields.keys() - {"run_id", "created_at"}
        return cls(**{name: getattr(said, name) for name in names}, run_id=run_id)

    @property
    def facts(self) -> tuple[str, ...]:
        """All that tells this row from others of the same audio."""
        extra = json.dumps(self.extra, ensure_ascii=False, sort_keys=True)
        words = (self.title, self.artist, self.album, self.genre, self.isrc, extra)
        return tuple(map(plain, (self.track_id, self.source, *words, self.fingerprint)))


ROWS: dict[str, type[BaseModel]] = {
    "tracks": TrackRow,
    "stems": StemRow,
    "failures": Failure,
    "aliases": Alias,
}
"""The class of each table's rows."""


def is_json(row: type[BaseModel], name: str) -> bool:
    """Return whether a column holds a list or a mapping, as JSON in a text."""
    field = row.model_fields.get(name)
    return field is not None and get_origin(field.annotation) in (tuple, dict)


def cells(row: BaseModel) -> dict[str, Any]:
    """Return a row as its table holds it: lists and mappings as JSON, an empty text as null."""
    return {name: _cell(value) for name, value in row}


def _cell(value: Any) -> Any:
    if isinstance(value, (tuple, dict)):
        value = json.dumps(value, ensure_ascii=False)
    return (plain(value) or None) if isinstance(value, str) else value


def added(table: str) -> list[Column]:
    """Return the registered columns of a table; a field of its row wins over one of its name."""
    fields = ROWS[table].model_fields
    return [column for column in columns_of(table) if column.name not in fields]


def _registered(table: str, report: TrackReport, stem: str = "") -> dict[str, Any]:
    values = {}
    for column in added(table):
        try:
            values[column.name] = _typed(column, column.value(report, stem))
        except Exception as error:
            # Somebody else's column must not cost a finished track its row.
            log.warning("%s: the column %s is null: %s", report.label, column.name, error)
    return values


def _typed(column: Column, value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    make: Callable[[Any], Any] = column.type
    return value if isinstance(value, column.type) else make(value)


def _named(row: type[BaseModel], *values: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return what `values` hold under the names of a row's columns; the last one wins."""
    return {
        column: getattr(value, name)
        for value in values
        for column, name in _shared(row, type(value), prefix)
    }


@cache
def _shared(
    row: type[BaseModel], kind: type[BaseModel], prefix: str
) -> tuple[tuple[str, str], ...]:
    """Return the columns of a row, and the fields or properties of `kind` that give them."""
    columns = ((name, name.removeprefix(prefix)) for name in row.model_fields)
    return tuple(
        (column, name)
        for column, name in columns
        if column.startswith(prefix)
        and (name in kind.model_fields or isinstance(vars(kind).get(name), property))
    )


def _codes(reasons: Iterable[Reason]) -> list[str]:
    return list(dict.fromkeys(reason.code for reason in reasons))
