"""The columns of the tables: those of `interfaces.md` section 4 first, in its order, then more.

Every file has the whole schema, so that a column with nothing but nulls keeps its type.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

Table = Literal["tracks", "stems", "failures", "aliases"]

_TEXT, _REAL, _WHOLE, _FLAG, _TIME = "text", "real", "whole", "flag", "time"


def _columns(**kinds: str) -> dict[str, str]:
    return {name: kind for kind, names in kinds.items() for name in names.split()}


# Columns that aren't named here are text; lists and mappings are JSON in a text.
_KINDS = _columns(
    real="""duration_s residual_db assignment_entropy spectral_entropy_mixture
        spectral_entropy_delta_mean bleed_db score separation_s pipeline_s realtime_factor cost_usd
        estimated_si_sdr_db stem_gain mixture_gain mixture_peak peak_dbfs rms_dbfs energy_share
        spectral_entropy spectral_entropy_delta spectral_flatness bandwidth_hz
        estimated_si_sdr_low_db estimated_si_sdr_high_db percentile robust_z""",
    whole="""source_sample_rate_hz source_channels source_bit_rate_bps source_bytes attempts attempt
        bytes clipped_samples shifts seed population_size batch peak_vram_bytes
        peak_rss_bytes""",
    flag="source_lossy complete silent mixture_silent absent retryable input_error",
    time="created_at",
)

_TRACKS = """
    track_id separation_id source title artist album genre duration_s source_codec
    source_sample_rate_hz source_channels source_bit_rate_bps source_lossy model weights_sha256
    engine provider device stems_expected stems_present complete residual_db assignment_entropy
    spectral_entropy_mixture spectral_entropy_delta_mean bleed_db score verdict reasons
    separation_s pipeline_s realtime_factor attempts cost_usd run_id flow_run_name
    stemwright_version created_at
    estimated_si_sdr_db stems_silent stem_gain mixture_gain mixture_peak mixture_silent isrc extra
    notes source_container source_channel_layout source_bit_depth source_bytes format bit_depth
    fingerprint aliases estimated_si_sdr_low_db estimated_si_sdr_high_db percentile robust_z
    population population_size warnings route backend precision batch peak_vram_bytes peak_rss_bytes
"""
_STEMS = """
    track_id separation_id stem path sha256 bytes duration_s silent peak_dbfs rms_dbfs
    clipped_samples energy_share spectral_entropy spectral_entropy_delta spectral_flatness
    bandwidth_hz bleed_db score verdict reasons
    estimated_si_sdr_db absent bleed_from assignment_entropy origin problems run_id created_at
    estimated_si_sdr_low_db estimated_si_sdr_high_db percentile robust_z population
    population_size warnings
"""
_FAILURES = """
    track_id source stage error_type message retryable attempt run_id created_at
    label remedy input_error fingerprint
"""
_ALIASES = "track_id separation_id source fingerprint run_id created_at"

COLUMNS: dict[Table, tuple[str, ...]] = {
    "tracks": tuple(_TRACKS.split()),
    "stems": tuple(_STEMS.split()),
    "failures": tuple(_FAILURES.split()),
    "aliases": tuple(_ALIASES.split()),
}


@cache
def schema(table: Table) -> Any:
    """The `pyarrow.Schema` of a table."""
    import pyarrow as pa

    types = {
        _TEXT: pa.string(),
        _REAL: pa.float64(),
        _WHOLE: pa.int64(),
        _FLAG: pa.bool_(),
        _TIME: pa.timestamp("us", tz="UTC"),
    }
    return pa.schema([(name, types[_KINDS.get(name, _TEXT)]) for name in COLUMNS[table]])
