"""Valid reports, and the folders of files that they describe."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.contracts import (
    STEMS,
    Completeness,
    Mixture,
    QualityReport,
    Run,
    SeparationSettings,
    SourceFormat,
    StemCheck,
    StemQuality,
    StemSet,
    TrackRef,
    TrackReport,
)

SEPARATION_ID = "htdemucs-0123abcd"
RATE_HZ = 44_100


def track_id_of(number: int | str) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:16]


def content_of(name: str, report_id: str = "") -> bytes:
    """What `write_folder` puts into a file."""
    return f"{name}:{report_id}".encode() * 50


def make_report(
    track: int | str = 1,
    separation_id: str = SEPARATION_ID,
    *,
    folder: Path = Path("/scratch/somewhere"),
    source: str = "",
    fingerprint: str = "size=1;time=2",
    title: str = "Title",
    artist: str = "Artist",
    stems: Sequence[str] = STEMS,
    run_id: str = "run-1",
    created_at: datetime | None = None,
    **changes: Any,
) -> TrackReport:
    """A report as the pipeline builds it: whole, its paths absolute, its bytes those that
    `write_folder(folder, report)` writes. `changes` replace fields of `TrackReport`."""
    track_id = track_id_of(track)
    where = source or f"/music/{track}.mp3"
    ref = TrackRef(source=where, kind="file", title=title, artist=artist)
    frames = 10 * RATE_HZ
    fields: dict[str, Any] = {
        "track_id": track_id,
        "separation_id": separation_id,
        "source": where,
        "fingerprint": fingerprint,
        "title": title,
        "artist": artist,
        "duration_s": 10.0,
        "mixture": _mixture(ref, track_id, folder, frames, fingerprint),
        "settings": SeparationSettings(),
        "stem_set": _stem_set(track_id, separation_id, folder, stems, frames),
        "completeness": _completeness(folder, stems, frames, run_id),
        "quality": _quality(stems),
        "pipeline_s": 6.5,
        "run": Run(run_id=run_id, flow_run_name="separate", stemwright_version="0.1.0"),
        "created_at": created_at or datetime.now(UTC),
    }
    return TrackReport(**fields | changes)


def write_folder(folder: Path, report: TrackReport) -> Path:
    """Write the files that `report` names into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    run_id = report.run.run_id
    for name in ["mixture", *report.stem_set.stems]:
        (folder / f"{name}.flac").write_bytes(content_of(name, run_id))
    return folder


def _mixture(ref: TrackRef, track_id: str, folder: Path, frames: int, fingerprint: str) -> Mixture:
    source = SourceFormat(
        container="mp3",
        codec="mp3float",
        sample_rate_hz=48_000,
        channels=2,
        channel_layout="stereo",
        bit_rate_bps=None,
        lossy=True,
    )
    return Mixture(
        ref=ref,
        track_id=track_id,
        path=folder / "mixture.flac",
        sample_rate_hz=RATE_HZ,
        channels=2,
        frames=frames,
        bit_depth="24",
        peak=0.9,
        silent=False,
        source=source,
        source_bytes=123_456,
        fingerprint=fingerprint,
        notes=("resampled from 48000 Hz",),
    )


def _stem_set(
    track_id: str, separation_id: str, folder: Path, stems: Sequence[str], frames: int
) -> StemSet:
    return StemSet(
        track_id=track_id,
        separation_id=separation_id,
        model="htdemucs",
        weights_sha256="ab" * 32,
        expected=tuple(stems),
        stems={name: folder / f"{name}.flac" for name in stems},
        sample_rate_hz=RATE_HZ,
        channels=2,
        frames=frames,
        engine="local_cpu",
        provider="local_cpu",
        device="cpu",
        separation_s=5.0,
    )


def _completeness(folder: Path, stems: Sequence[str], frames: int, run_id: str) -> Completeness:
    checks = {
        name: StemCheck(
            name=name,
            path=folder / f"{name}.flac",
            sha256=hashlib.sha256(content_of(name, run_id)).hexdigest(),
            bytes=len(content_of(name, run_id)),
            frames=frames,
            silent=False,
            peak_dbfs=-3.0,
            rms_dbfs=-18.0,
            clipped_samples=0,
            energy_share=0.25,
        )
        for name in stems
    }
    names = tuple(stems)
    return Completeness(
        expected=names,
        present=names,
        missing=(),
        silent=(),
        problems=(),
        stems=checks,
        residual_db=-25.0,
    )


def _quality(stems: Sequence[str]) -> QualityReport:
    each = StemQuality(
        score=0.7,
        verdict="pass",
        estimated_si_sdr_db=7.5,
        reasons=(),
        spectral_entropy=0.5,
        bleed_db=-20.0,
    )
    return QualityReport(
        score=0.5,
        verdict="review",
        estimated_si_sdr_db=6.0,
        reasons=("high_bleed",),
        stems=dict.fromkeys(stems, each),
        assignment_entropy=0.3,
        bleed_db=-18.0,
    )
