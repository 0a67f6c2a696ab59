"""Reports and failures as rows of the tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from tasks.contracts import Reason, StemCheck, TrackReport
from tasks.recording.layout import place_of
from tasks.recording.sidecar import plain

Row = dict[str, Any]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _codes(reasons: Iterable[Reason]) -> str:
    return _json(list(dict.fromkeys(reason.code for reason in reasons)))


def _tidy(row: Row) -> Row:
    """Null for what isn't known: an empty text, a float that isn't finite."""
    return {name: _tidy_value(value) for name, value in row.items()}


def _tidy_value(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value) or None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def track_row(report: TrackReport) -> Row:
    """The row of one separation in `reports/tracks`."""
    return _tidy(
        {
            "track_id": report.track_id,
            "separation_id": report.separation_id,
            "source": report.source,
            "title": report.title,
            "artist": report.artist,
            "album": report.album,
            "genre": report.genre,
            "isrc": report.isrc,
            "extra": _json(report.extra),
            "fingerprint": report.fingerprint,
            "aliases": _json(report.aliases),
            "duration_s": report.duration_s,
            "pipeline_s": report.pipeline_s,
            "attempts": report.attempts,
            "run_id": report.run.run_id,
            "flow_run_name": report.run.flow_run_name,
            "stemwright_version": report.run.stemwright_version,
            "created_at": report.created_at,
            **_source_columns(report),
            **_separation_columns(report),
            **_quality_columns(report),
        }
    )


def _source_columns(report: TrackReport) -> Row:
    mixture, source = report.mixture, report.mixture.source
    return {
        "source_container": source.container,
        "source_codec": source.codec,
        "source_sample_rate_hz": source.sample_rate_hz,
        "source_channels": source.channels,
        "source_channel_layout": source.channel_layout,
        "source_bit_depth": source.bit_depth,
        "source_bit_rate_bps": source.bit_rate_bps,
        "source_lossy": source.lossy,
        "source_bytes": mixture.source_bytes,
        "mixture_gain": mixture.gain,
        "mixture_peak": mixture.peak,
        "mixture_silent": mixture.silent,
        "notes": _json(mixture.notes),
    }


def _separation_columns(report: TrackReport) -> Row:
    stems = report.stem_set
    return {
        "model": stems.model,
        "weights_sha256": stems.weights_sha256,
        "engine": stems.engine,
        "provider": stems.provider,
        "device": stems.device,
        "separation_s": stems.separation_s,
        "realtime_factor": report.realtime_factor or None,
        "cost_usd": stems.cost_usd,
        "route": _json(stems.route),
        "backend": stems.backend,
        "precision": stems.precision,
        "batch": stems.batch or None,
        "peak_vram_bytes": stems.peak_vram_bytes,
        "peak_rss_bytes": stems.peak_rss_bytes,
        "stem_gain": stems.gain,
        "format": report.settings.format,
        "bit_depth": report.settings.bit_depth,
    }


def _quality_columns(report: TrackReport) -> Row:
    whole, quality = report.completeness, report.quality
    return {
        "stems_expected": _json(whole.expected),
        "stems_present": _json(whole.present),
        "stems_silent": _json(whole.silent),
        "complete": whole.complete,
        "residual_db": _first(whole.residual_db, quality.residual_db),
        "assignment_entropy": quality.assignment_entropy,
        "spectral_entropy_mixture": quality.spectral_entropy_mixture,
        "spectral_entropy_delta_mean": quality.spectral_entropy_delta_mean,
        "bleed_db": quality.bleed_db,
        "estimated_si_sdr_db": quality.estimated_si_sdr_db,
        "score": quality.score,
        "verdict": quality.verdict,
        "reasons": _json(quality.reasons),
        "warnings": _codes(quality.warnings),
        "estimated_si_sdr_low_db": quality.estimated_si_sdr_low_db,
        "estimated_si_sdr_high_db": quality.estimated_si_sdr_high_db,
        "percentile": quality.percentile,
        "robust_z": quality.robust_z,
        "population": quality.population,
        "population_size": quality.population_size,
    }


def stem_rows(report: TrackReport) -> list[Row]:
    """One row a present stem, in `reports/stems`."""
    checks = report.completeness.stems
    return [
        _stem_row(report, checks[name]) for name in report.completeness.present if name in checks
    ]


def _stem_row(report: TrackReport, check: StemCheck) -> Row:
    quality = report.quality.stems.get(check.name)
    scored = quality.model_dump(exclude={"details", "measures", "warnings"}) if quality else {}
    return _tidy(
        {
            **scored,
            "reasons": _json(scored.get("reasons", [])),
            "warnings": _codes(quality.warnings if quality else ()),
            "track_id": report.track_id,
            "separation_id": report.separation_id,
            "stem": check.name,
            "path": f"{place_of(report.track_id, report.separation_id)}/{check.path.name}",
            "sha256": check.sha256,
            "bytes": check.bytes,
            "duration_s": check.frames / report.stem_set.sample_rate_hz,
            "silent": check.silent,
            "peak_dbfs": check.peak_dbfs,
            "rms_dbfs": check.rms_dbfs,
            "clipped_samples": check.clipped_samples,
            "energy_share": check.energy_share,
            "origin": report.stem_set.stem_origins.get(check.name),
            "problems": _json(check.problems),
            "run_id": report.run.run_id,
            "created_at": report.created_at,
        }
    )


def value_row(value: BaseModel) -> Row:
    """A failure or an alias, whose fields are its columns."""
    return _tidy(value.model_dump())
