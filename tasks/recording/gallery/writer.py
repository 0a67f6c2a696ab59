"""Writes a gallery: the page, and beside it a file a track where one page would be too large."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from tasks.contracts import TrackReport, Value, Verdict
from tasks.errors import SettingsError, StemwrightError
from tasks.recording.gallery import previews
from tasks.recording.gallery.comparison import compared
from tasks.recording.gallery.details import Detail, Sound, detail
from tasks.recording.gallery.page import page, side_script
from tasks.recording.selection import demand_both, newest_by

if TYPE_CHECKING:
    import pandas as pd

    from tasks.recording.library import Library

log = logging.getLogger(__name__)

EMBEDDED_BYTES = 32 * 1024**2
"""`auto` embeds up to this much audio: some 45 minutes, all stems and mixtures added up."""

INLINE_TRACKS = 100
INLINE_AUDIO_BYTES = 64 * 1024**2
"""With more pictured tracks, or more audio, than this, each track's part is a file of its own."""

_FORM = 3
"""Changes with what a side file holds, so that older ones are made anew."""
_SIDE_FILE = re.compile(r"[0-9a-f]{16}\.js")

Progress = Callable[[int, int], None]
"""Told how many of how many tracks are drawn."""


class GalleryOptions(Value):
    """Which tracks a gallery shows, and how much of each."""

    verdict: Verdict | None = None
    limit: int = Field(default=0, ge=0, description="Tracks in the table, worst first; 0 is all.")
    pictures: int = Field(
        default=300, ge=0, description="Tracks with pictures and audio; flagged ones come first."
    )
    audio: Literal["auto"] | Sound = "auto"
    compare: tuple[str, str] | None = Field(
        default=None, description="Two models or separation ids: the tracks that both have."
    )


class Written(Value):
    """A gallery that was written. `bytes` counts the page and its side files."""

    path: Path
    tracks: int
    pictured: int
    audio: Sound
    side_files: int
    bytes: int
    unreadable: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    """Folders that have lost files; the page says which."""


def write_gallery(
    library: Library,
    out: Path | None = None,
    options: GalleryOptions | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write a library's gallery: one HTML file that needs no network.

    With more than `INLINE_TRACKS` pictured tracks, or very much embedded audio, each track's part
    is a file of its own in `NAME_files/`, which the page loads when the track is opened; those
    that are there already are kept.

    Args:
        library: Its tables say which tracks there are, its sidecars and files what they hold.
        out: The page. By default `gallery.html` in a local library, else in this folder.
        options: Which tracks, and with how much of each.
        progress: Called after each track that was drawn.

    Raises:
        SettingsError: The page can't be written there.
        StemwrightError: The library can't be read.
    """
    options = options or GalleryOptions()
    out = (out or _default_place(library)).absolute()
    frame, beside_it = _rows(library, options)
    shown = frame.iloc[chosen(frame, options.pictures)]
    signals = 2 if options.compare else 1
    expected = signals * sum(map(_preview_bytes, shown["duration_s"], shown["stems_present"]))
    sound = _sound(options, library, expected)
    beside = len(shown) > INLINE_TRACKS or (sound == "embed" and expected > INLINE_AUDIO_BYTES)
    work = _Work(library, sound, out, progress or (lambda done, of: None), beside_it)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sides = work.side_files(shown) if beside else {}
        inline = [] if beside else work.details(shown)
        text = page(
            library,
            frame,
            inline,
            sides,
            sound=sound,
            pictured=len(shown),
            compared=options.compare or (),
        )
        _replace(out, text)
        if not beside:
            work.sweep(set())
    except OSError as error:
        cause = f"{error.filename or out} can't be written: {error.strerror or error}."
        raise SettingsError(cause, remedy="Set --out to a file in a folder of yours.") from error
    return Written(
        path=out,
        tracks=len(frame),
        pictured=len(sides) + len(inline),
        audio=sound,
        side_files=len(sides),
        bytes=out.stat().st_size
        + sum((out.parent / name).stat().st_size for name in sides.values()),
        unreadable=tuple(work.unreadable),
        lost=tuple(library.folder(*key) for key in library.lost_of(frame)),
    )


def chosen(frame: pd.DataFrame, count: int) -> list[int]:
    """Return the rows to be shown in full, in their order.

    All if they fit; else those below pass, worst first, and in the room that is left a sample of
    the rest, evenly spaced over their scores.
    """
    if len(frame) <= count:
        return list(range(len(frame)))
    flagged = [index for index, verdict in enumerate(frame["verdict"]) if verdict != "pass"]
    rest = sorted(set(range(len(frame))) - set(flagged))
    room = max(0, count - len(flagged))
    sample = [rest[index * len(rest) // room] for index in range(room)] if rest else []
    return sorted(flagged[:count] + sample)


def _rows(library: Library, options: GalleryOptions) -> tuple[pd.DataFrame, dict[str, _Beside]]:
    """Return the rows of the table, and for a comparison what is shown beside each, by track."""
    if options.compare is None:
        frame, beside_it = library.newest(options.verdict), {}
    else:
        demand_both(library, options.compare)
        every = library.tracks()
        first, second = (newest_by(every, name) for name in options.compare)
        others = dict(zip(first["track_id"], first["separation_id"], strict=True))
        frame = second[second["track_id"].isin(others)].sort_values("score", kind="stable")
        if options.verdict is not None:
            frame = frame[frame["verdict"] == options.verdict]
        beside_it = {
            track_id: _Beside(others[track_id], options.compare) for track_id in frame["track_id"]
        }
    if options.limit:
        frame = frame.head(options.limit)
    return frame.reset_index(drop=True), beside_it


class _Beside(NamedTuple):
    """The separation that is shown beside a track's own, and what the two are called."""

    separation_id: str
    names: tuple[str, str]


def _default_place(library: Library) -> Path:
    return Path(library.url if library.is_local else ".") / "gallery.html"


def _preview_bytes(duration_s: float, stems_present: str) -> int:
    return previews.expected_bytes(duration_s, 1 + stems_present.count('"') // 2)


def _sound(options: GalleryOptions, library: Library, expected: int) -> Sound:
    if options.audio == "link" and not library.is_local:
        raise SettingsError(
            f"{library.url} is an object store: a page can't play its files by a link.",
            remedy="Use --audio embed or --audio none.",
        )
    if options.audio != "auto":
        return options.audio
    if expected <= EMBEDDED_BYTES:
        return "embed"
    return "link" if library.is_local else "none"


class _Work:
    """Draws the tracks of one gallery."""

    def __init__(
        self,
        library: Library,
        sound: Sound,
        out: Path,
        progress: Progress,
        beside: Mapping[str, _Beside],
    ) -> None:
        self._library = library
        self._beside = beside
        self._sound = sound
        self._out = out
        self._folder = out.with_name(f"{out.stem}_files")
        self._progress = progress
        self.unreadable: list[str] = []

    def details(self, frame: pd.DataFrame) -> list[Detail]:
        return [self._detail(*reports) for reports in self._reports(frame)]

    def side_files(self, frame: pd.DataFrame) -> dict[str, str]:
        """Write a file a track; return the path of each, relative to the page, by track."""
        self._folder.mkdir(exist_ok=True)
        sides = {}
        for report, other in self._reports(frame):
            name = self._name(report, other)
            if not (self._folder / name).exists():
                _replace(self._folder / name, side_script(self._detail(report, other)))
            sides[report.track_id] = f"{self._folder.name}/{name}"
        self.sweep({path.rsplit("/", 1)[-1] for path in sides.values()})
        return sides

    def sweep(self, kept: set[str]) -> None:
        """Remove side files of ours that the page doesn't name any more."""
        if not self._folder.is_dir():
            return
        for file in self._folder.iterdir():
            if _SIDE_FILE.fullmatch(file.name) and file.name not in kept:
                file.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _detail(self, report: TrackReport, other: TrackReport | None) -> Detail:
        own = detail(report, self._library, self._sound, self._out.parent)
        if other is None:
            return own
        first = detail(other, self._library, self._sound, self._out.parent)
        names = self._beside[report.track_id].names
        return compared((other, report), (first, own), names)

    def _reports(self, frame: pd.DataFrame) -> Iterator[tuple[TrackReport, TrackReport | None]]:
        """Yield each report, and in a comparison the one that is shown beside it."""
        keys = list(zip(frame["track_id"], frame["separation_id"], strict=True))
        for done, (track_id, separation_id) in enumerate(keys, 1):
            try:
                report = self._library.report(track_id, separation_id)
                beside = self._beside.get(track_id)
                other = beside and self._library.report(track_id, beside.separation_id)
                yield report, other or None
            except StemwrightError as error:
                log.warning("%s", error)
                self.unreadable.append(f"{track_id}/{separation_id}")
            self._progress(done, len(keys))

    def _name(self, report: TrackReport, other: TrackReport | None) -> str:
        """Name what a side file is made of: the reports, the form, how it sounds."""
        known = f"{_FORM} {self._sound} {report.model_dump_json()} {self._out.parent}"
        if other is not None:
            names = self._beside[report.track_id].names
            known += f" {other.model_dump_json()} {' '.join(names)}"
        return hashlib.sha256(known.encode("utf-8", "backslashreplace")).hexdigest()[:16] + ".js"


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
