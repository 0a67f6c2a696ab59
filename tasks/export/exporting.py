"""Stems of one separation out of a library, under readable names; nothing is ever overwritten."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from tasks.audio.block_reader import AudioFile, Samples
from tasks.contracts import BitDepth, TrackReport, Value
from tasks.errors import SettingsError, StorageError, from_os_error
from tasks.export.encoding import Format, write_audio
from tasks.export.naming import Template, fields_of
from tasks.export.stem_mp4 import (
    STEMS,
    SUFFIX,
    check_stems,
    describe,
    write_stem_mp4,
)
from tasks.export.tagging import cover_of, mark_of, read_mark, write_tags
from tasks.recording import Library

_BLOCK = 1 << 16
_MIXTURE = "mixture"

How = Literal["linked", "copied", "encoded", "already"]


@dataclass(frozen=True)
class ExportForm:
    """What to export of each separation.

    Attributes:
        format: Encoded anew, with tags and cover; None gives the library's own files as they are,
            by hard link where that can be.
        bit_depth: Bits a sample, for flac and wav.
        stems: Which ones; none are all.
        mix: One file, the sum of these stems, in the stems' place.
        two_stems: This stem, and the mixture minus it, in the stems' place.
    """

    format: Format | Literal["stem.mp4"] | None = None
    bit_depth: BitDepth = "24"
    stems: tuple[str, ...] = ()
    mix: tuple[str, ...] = ()
    two_stems: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.stems, self.mix, self.two_stems))) > 1:
            raise SettingsError(
                "stems, a mix and two stems are three different exports.",
                remedy="Give one of --stems, --mix and --two-stems.",
            )
        if self.is_stem_mp4 and (self.stems or self.mix or self.two_stems):
            raise SettingsError(
                f"a .{SUFFIX} holds the mixture and all four stems.",
                remedy="Leave --stems, --mix and --two-stems out.",
            )
        if self.bit_depth == "32f" and self.format == "flac":
            raise SettingsError("flac holds no 32-bit float.", remedy="Use --format wav.")

    @property
    def is_stem_mp4(self) -> bool:
        return self.format == SUFFIX


class Exported(Value):
    """One file that an export has put in its place, or found there from an earlier one."""

    track_id: str
    separation_id: str
    stem: str
    path: str
    how: How


@dataclass(frozen=True)
class _Part:
    """One file to be: the sum of files of the separation, each with its sign."""

    name: str
    terms: tuple[tuple[str, float], ...]


def export_separation(
    library: Library,
    track_id: str,
    separation_id: str,
    out: Path,
    template: Template,
    form: ExportForm,
) -> list[Exported]:
    """Put the stems of a separation into a folder.

    Args:
        library: Where it is.
        track_id: Of which track.
        separation_id: Which of its separations.
        out: The folder, made where it isn't there.
        template: How the files are called in it.
        form: What is made.

    Returns:
        The files, those that an earlier export has made included.

    Raises:
        SettingsError: A stem that the separation hasn't got.
        ProtocolError, SourceMissing: The separation isn't finished, or has lost a file.
        StorageError, DiskFull, SourceUnreadable: The folder can't be written to.
    """
    report = library.report(track_id, separation_id)
    try:
        with _files(library, report, form) as files:
            return [
                _Export(report, files, part, form).into(out, template)
                for part in _parts(report, form)
            ]
    except OSError as error:
        raise from_os_error(error, track=report.label) from error


def _parts(report: TrackReport, form: ExportForm) -> list[_Part]:
    there = report.stem_set.stems
    asked = form.mix or form.stems or ((form.two_stems,) if form.two_stems else tuple(there))
    for name in asked:
        if name not in there:
            raise SettingsError(
                f"{report.label}: the separation {report.separation_id} has no stem {name!r}.",
                remedy=f"It has {', '.join(there)}.",
            )
    if form.is_stem_mp4:
        check_stems(there, report.label)
        return [_Part("stems", ((_MIXTURE, report.stem_set.gain),))]
    if form.mix:
        return [_Part("+".join(form.mix), tuple((name, 1.0) for name in form.mix))]
    if form.two_stems:
        # The stems share a gain that keeps them from clipping; so has what they are taken from.
        rest = ((_MIXTURE, report.stem_set.gain), (form.two_stems, -1.0))
        return [
            _Part(form.two_stems, ((form.two_stems, 1.0),)),
            _Part(f"no_{form.two_stems}", rest),
        ]
    return [_Part(name, ((name, 1.0),)) for name in asked]


@contextmanager
def _files(
    library: Library, report: TrackReport, form: ExportForm
) -> Iterator[Callable[[str], Path]]:
    """What gives the local path of a stem, or of the mixture."""
    names = {_MIXTURE: report.mixture.path.name} | {
        stem: path.name for stem, path in report.stem_set.stems.items()
    }
    with tempfile.TemporaryDirectory(prefix="stemwright-export-") as scratch:

        def local(name: str) -> Path:
            return library.local_file(
                report.track_id, report.separation_id, names[name], Path(scratch)
            )

        yield local


@dataclass(frozen=True)
class _Export:
    """One part of one separation on its way into a folder."""

    report: TrackReport
    files: Callable[[str], Path]
    part: _Part
    form: ExportForm

    @property
    def _is_whole_file(self) -> bool:
        return self.form.format is None and len(self.part.terms) == 1

    @property
    def _format(self) -> Format | Literal["stem.mp4"]:
        """A sum can't be linked: it is written as the library's files are."""
        return self.form.format or self.report.settings.format

    @property
    def _depth(self) -> BitDepth:
        return self.form.bit_depth if self.form.format else self.report.settings.bit_depth

    @property
    def _mark(self) -> str:
        depth = f" {self._depth}" if self._format in ("flac", "wav") else ""
        return mark_of(self.report, f"{self.part.name} {self._format}{depth}")

    def into(self, out: Path, template: Template) -> Exported:
        fields = fields_of(self.report, self.part.name, self._format)
        wanted = out / template.path(fields)
        _make_folder(wanted.parent, out)
        source = self.files(self.part.terms[0][0]) if self._is_whole_file else None
        partial = wanted.with_name(f".{uuid.uuid4().hex}.partial")
        how: How | None = None
        try:
            for path in _numbered(wanted):
                if os.path.lexists(path):
                    if self._is_mine(path, source):
                        return self._exported(path, "already")
                    continue
                how = (
                    "encoded"
                    if partial.exists() and source is None
                    else self._make(partial, source)
                )
                if _publish(partial, path):
                    return self._exported(path, how)
        finally:
            partial.unlink(missing_ok=True)
        raise AssertionError  # numbers don't end

    def _exported(self, path: Path, how: How) -> Exported:
        return Exported(
            track_id=self.report.track_id,
            separation_id=self.report.separation_id,
            stem=self.part.name,
            path=str(path),
            how=how,
        )

    def _is_mine(self, path: Path, source: Path | None) -> bool:
        """Whether an earlier export of the same has made this file."""
        if source is None:
            return read_mark(path) == self._mark
        try:
            here, there = path.stat(), source.stat()
        except OSError:
            return False
        same_copy = (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)
        return path.samefile(source) or same_copy

    def _make(self, partial: Path, source: Path | None) -> How:
        if source is None:
            self._encode(partial)
            return "encoded"
        try:
            partial.hardlink_to(source)
        except OSError:
            # Another disk, or one without links.
            shutil.copy2(source, partial)
            return "copied"
        return "linked"

    def _encode(self, partial: Path) -> None:
        form, rate_hz = self._format, self.report.stem_set.sample_rate_hz
        source = Path(self.report.source)
        cover = cover_of(source) if source.is_file() else None
        if form == "stem.mp4":
            write_stem_mp4(
                partial, self._blocks(), {name: self._stem(name) for name in STEMS}, rate_hz
            )
            write_tags(partial, "m4a", self.report, "", self._mark, cover)
            describe(partial)
            return
        gain = self._headroom()
        blocks = (block * gain if gain < 1.0 else block for block in self._blocks())
        write_audio(partial, blocks, form=form, depth=self._depth, rate_hz=rate_hz)
        write_tags(partial, form, self.report, self.part.name, self._mark, cover)

    def _stem(self, name: str) -> Iterator[Samples]:
        return replace(self, part=_Part(name, ((name, 1.0),)))._blocks()

    def _headroom(self) -> np.float32:
        """What a sum is multiplied by so that it doesn't clip where its parts don't."""
        if len(self.part.terms) == 1 or self._depth == "32f":
            return np.float32(1.0)
        peak = max((float(np.abs(block).max(initial=0.0)) for block in self._blocks()), default=0.0)
        return np.float32(min(1.0, 1.0 / peak if peak else 1.0))

    def _blocks(self) -> Iterator[Samples]:
        opened = [(AudioFile(self.files(name)), sign) for name, sign in self.part.terms]
        try:
            while True:
                blocks = [file.read(_BLOCK) * np.float32(sign) for file, sign in opened]
                if not len(blocks[0]):
                    return
                yield np.add.reduce(blocks)
        finally:
            for file, _ in opened:
                file.close()


def _make_folder(folder: Path, out: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not folder.resolve().is_relative_to(out.resolve()):
        raise StorageError(
            f"{folder} leads out of {out} by a link.",
            remedy="Remove the link, or export elsewhere.",
        )


def _numbered(path: Path) -> Iterator[Path]:
    """The path, then "name (2).ext" and on."""
    yield path
    for number in count(2):
        name = PurePosixPath(path.name)
        yield path.with_name(f"{name.stem} ({number}){name.suffix}")


def _publish(partial: Path, path: Path) -> bool:
    """Give a file its name unless something has it by now."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        return False
    except OSError:
        # A disk without links: the look before is all there is.
        partial.rename(path)
        return True
    partial.unlink()
    return True
