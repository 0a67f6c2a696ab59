"""`report.json`: written last, with names relative to its folder."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.contracts import TrackReport
from tasks.recording import disk
from tasks.recording.layout import REPORT, Key
from tasks.recording.storage_errors import damaged


def plain(text: str) -> str:
    """Return text that UTF-8 can hold: the undecodable bytes of a file's name become `\\udcXX`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain_all(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(key): _plain_all(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_all(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def relative(report: TrackReport) -> TrackReport:
    """Return the report as its folder holds it: every path a bare file name."""
    whole = _plain_all(report.model_dump())
    whole["mixture"]["path"] = report.mixture.path.name
    whole["stem_set"]["stems"] = {name: at.name for name, at in report.stem_set.stems.items()}
    for name, check in report.completeness.stems.items():
        whole["completeness"]["stems"][plain(name)]["path"] = check.path.name
    return TrackReport.model_validate(whole)


def dump(report: TrackReport) -> bytes:
    text = json.dumps(report.model_dump(mode="json"), ensure_ascii=False, indent=2)
    return text.encode("utf-8") + b"\n"


def parse(data: bytes, key: Key) -> TrackReport:
    """Read a sidecar.

    Raises:
        ProtocolError: It is damaged, of another version, or of another separation than `key`.
    """
    try:
        report = TrackReport.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        cause = f"report.json can't be read: {first['msg']} (at {where or 'its start'})."
        raise damaged(f"{'/'.join(key)}: {cause}", "Remove the folder and run again.") from error
    if (report.track_id, report.separation_id) != key:
        found = f"{report.track_id}/{report.separation_id}"
        raise damaged(f"{'/'.join(key)}: its report.json is that of {found}.")
    return report


def lost(data: bytes, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Return the files that a sidecar names and its folder lacks, or has cut short.

    It looks at names and sizes alone, and doesn't validate: this is asked of every finished track
    of a catalog. A sidecar that can't be read is lost itself. No size of the mixture was noted:
    it only mustn't be empty.

    Args:
        data: The `report.json`.
        sizes: Of the files in its folder.
    """
    try:
        report = json.loads(data)
        names = {report["mixture"]["path"], *report["stem_set"]["stems"].values()}
        checks = report["completeness"]["stems"].values()
        wanted = {check["path"]: check["bytes"] for check in checks}
    except (ValueError, LookupError, TypeError, AttributeError):
        return (REPORT,)
    return tuple(
        name
        for name in sorted(names)
        if not sizes.get(name) or sizes[name] != wanted.get(name, sizes[name])
    )


def seal(folder: Path, report: TrackReport) -> None:
    """Make `folder` whole: the report's files and no others, flushed, then report.json.

    Raises:
        ProtocolError: A file of the report isn't there, or isn't of the size that was checked.
        OSError: The disk.
    """
    files = {report.mixture.path.name, *(path.name for path in report.stem_set.stems.values())}
    for name in sorted(files):
        _demand_file(folder / name)
    for check in report.completeness.stems.values():
        if check.path.name in files and (folder / check.path.name).stat().st_size != check.bytes:
            raise damaged(f"{check.path.name} changed after it was validated.", "Run again.")
    for stray in folder.iterdir():
        if stray.name not in files:
            disk.clear(stray) if stray.is_dir() and not stray.is_symlink() else stray.unlink()
    for name in sorted(files):
        disk.sync(folder / name)
    disk.write_synced(folder / REPORT, dump(report))


def _demand_file(path: Path) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise damaged(f"{path.name} is named by the report but was never written.") from None
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        raise damaged(f"{path.name} is empty or not a plain file.")
