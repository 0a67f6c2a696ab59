"""One track in full: the mixture and its stems on one time line, and what is wrong where."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from tasks.contracts import Reason, TrackReport
from tasks.recording.gallery.images import data_url, spectrogram_url, waveform
from tasks.recording.gallery.previews import MIME_TYPE
from tasks.recording.gallery.signals import (
    MIXTURE,
    SignalUnreadable,
    observe,
    on_disk,
    signal_files,
)
from tasks.recording.gallery.spectrogram import Look
from tasks.recording.library import Library
from tasks.recording.rows import TrackRow

Detail = dict[str, Any]
Sound = Literal["embed", "link", "none"]

_OF_TRACK = {"track_id", "engine", "device", "duration_s", "percentile", "population", "notes"}
_OF_STEM = {
    "verdict",
    "score",
    "estimated_si_sdr_db",
    "bleed_db",
    "bleed_from",
    "absent",
    "silent",
}
_AT_ONCE = min(4, os.cpu_count() or 1)


def detail(report: TrackReport, library: Library, sound: Sound, page_folder: Path) -> Detail:
    """Return what the page shows of a track. A stem that can't be read leaves a note instead.

    Args:
        report: Of a finished separation of `library`.
        library: Where its files are.
        sound: Previews in the page, links to the library's own files, or none.
        page_folder: Links are relative to it.
    """
    files = signal_files(report)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        seen = list(pool.map(lambda file: _observed(library, report, file, sound), files.values()))
    looks = [look for look, _, _ in seen if look]
    peak = max((look.peak for look in looks), default=0.0)
    loudest = max((float(look.power.max(initial=0)) for look in looks), default=0.0)
    lanes = []
    for (name, file), (look, preview, problem) in zip(files.items(), seen, strict=True):
        lane = {"name": name, "problem": problem} | _quality(report, name)
        if look:
            lane["image"] = spectrogram_url(look, loudest)
            lane["wave"] = waveform(look, peak)
            lane["audio"] = _audio(library, report, file, sound, preview, page_folder)
        lanes.append(lane)
    return _about(report) | {"lanes": lanes}


def _observed(
    library: Library, report: TrackReport, file: str, sound: Sound
) -> tuple[Look | None, bytes, str]:
    try:
        with on_disk(library, report, file) as path:
            look, preview = observe(path, preview=sound == "embed", label=report.label, name=file)
    except SignalUnreadable as error:
        return None, b"", error.cause
    return look, preview, ""


def _audio(
    library: Library,
    report: TrackReport,
    file: str,
    sound: Sound,
    preview: bytes,
    page_folder: Path,
) -> str:
    if sound == "embed":
        return data_url(MIME_TYPE, preview)
    if sound == "none" or not library.is_local:
        return ""
    path = Path(library.folder(report.track_id, report.separation_id)) / file
    return quote(Path(os.path.relpath(path, page_folder)).as_posix())


def _quality(report: TrackReport, name: str) -> Detail:
    stem = report.quality.stems.get(name)
    return stem.model_dump(include=_OF_STEM) if stem else {}


def _about(report: TrackReport) -> Detail:
    quality = report.quality
    return TrackRow.of(report).model_dump(include=_OF_TRACK) | {
        "source": report.source.split("?", 1)[0],
        "problems": report.completeness.problems,
        "reasons": [_reason(reason) for reason in quality.every_detail],
        "warnings": [_reason(reason) for reason in quality.every_warning],
    }


def _reason(reason: Reason) -> Detail:
    return reason.model_dump(exclude={"value"}) | {"lane": reason.stem or MIXTURE}
