"""One track in full: the mixture and its stems on one time line, and what is wrong where."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from tasks.contracts import TrackReport
from tasks.heard import Fault, faults, worst_fault
from tasks.recording.gallery.images import data_url, spectrogram_url, waveform
from tasks.recording.gallery.page import rounded
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
from tasks.wording import passage, shown_number

Detail = dict[str, Any]
Sound = Literal["embed", "link", "none"]

_OF_TRACK = {"track_id", "engine", "device", "duration_s", "population", "notes"}
_OF_STEM = {"verdict", "bleed_from", "absent", "silent"}
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
        lane |= _place(library, report, file, page_folder)
        if look:
            lane["image"] = spectrogram_url(look, loudest)
            lane["wave"] = waveform(look, peak)
            lane["audio"] = _audio(lane["file"], sound, preview)
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


def _place(library: Library, report: TrackReport, file: str, page_folder: Path) -> dict[str, str]:
    """Where a lossless file is: its path or URL, and a link from the page, where one leads there.

    A file that is gone has its path too: there it was.
    """
    path = f"{library.folder(report.track_id, report.separation_id)}/{file}"
    link = quote(Path(os.path.relpath(path, page_folder)).as_posix()) if library.is_local else ""
    return {"path": path, "file": link}


def _audio(link: str, sound: Sound, preview: bytes) -> str:
    if sound == "embed":
        return data_url(MIME_TYPE, preview)
    return link if sound == "link" else ""


def _quality(report: TrackReport, name: str) -> Detail:
    stem = report.quality.stems.get(name)
    if stem is None:
        return {}
    numbers = ("score", "estimated_si_sdr_db", "bleed_db")
    return (
        stem.model_dump(include=_OF_STEM)
        | {field: rounded(field, getattr(stem, field)) for field in numbers}
        | {"worst": worst_fault(stem.details)}
    )


def _about(report: TrackReport) -> Detail:
    quality, row = report.quality, TrackRow.of(report)
    return row.model_dump(include=_OF_TRACK) | {
        "percentile": shown_number(row.percentile, 0),
        "source": report.source.split("?", 1)[0],
        "problems": report.completeness.problems,
        "reasons": [_fault(fault) for fault in faults(quality.every_detail)],
        "warnings": [_fault(fault) for fault in faults(quality.every_warning)],
    }


def _fault(fault: Fault) -> Detail:
    """What is heard, in which lane and where: the worst place first; and what was measured."""
    worst = fault.worst
    places = [(one.start_s, one.end_s) for one in fault.reasons if one.stem == worst.stem]
    known = [place for place in dict.fromkeys(places) if None not in place]
    return {
        "stem": worst.stem,
        "lane": worst.stem or MIXTURE,
        "sentence": fault.sentence,
        "when": passage(*known[0]) if known else "",
        "places": known,
        "measured": [one.sentence for one in fault.reasons],
    }
