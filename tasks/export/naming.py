"""Names of exported files: a template like yt-dlp's, safe on every system, never outside."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import PurePosixPath
from string import Formatter

from pathvalidate import sanitize_filename

from tasks.contracts import TrackReport
from tasks.errors import SettingsError
from tasks.paths import shown

DEFAULT_TEMPLATE = "{name}/{stem}.{ext}"
DEFAULT_OF_ONE_FILE = "{name}.{ext}"
FIELDS = (
    "name",
    "artist",
    "title",
    "album",
    "genre",
    "isrc",
    "stem",
    "ext",
    "track_id",
    "model",
    "source",
)
_LONGEST_BYTES = 240
"""Of a name: 255 is what file systems take, and a number or a suffix may be added."""


class Template:
    """A path made of fields in braces: `{artist}/{album}/{title} [{stem}].{ext}`.

    Slashes of the template part folders; slashes of what stands in a field don't.

    Args:
        text: The template.
        one_file: Whether a track is one file, so that `{stem}` needn't be in it.

    Raises:
        SettingsError: A field that isn't known, or `{stem}` is missing.
    """

    def __init__(self, text: str, *, one_file: bool = False) -> None:
        self._parts = text.split("/")
        names = [name for part in self._parts for name in _fields_of(part)]
        if "stem" not in names and not one_file:
            raise SettingsError(
                f"the template {text!r} gives every stem the same name.",
                remedy="Put {stem} into it.",
            )
        if any(part.strip() in ("", ".", "..") for part in self._parts):
            raise SettingsError(
                f"the template {text!r} leads out of the folder, or has an empty part.",
                remedy="Write it relative to --out.",
            )
        if not self._parts[-1].endswith(".{ext}"):
            self._parts[-1] += ".{ext}"

    def path(self, fields: Mapping[str, str]) -> PurePosixPath:
        """Return the path of a file, relative, every part of it a name that any system takes."""
        *folders, name = (part for part in self._parts)
        made = [_name(part.format_map(_Safe(fields))) for part in folders]
        stem = name.removesuffix(".{ext}").format_map(_Safe(fields))
        return PurePosixPath(*made, f"{_name(stem)}.{fields['ext']}")


def fields_of(report: TrackReport, stem: str, ext: str) -> dict[str, str]:
    """Return what a template's fields stand for, for one stem of a track."""
    # Without tags a track is called what its file was.
    source = PurePosixPath(shown(report.source).rstrip("/").rsplit("/", 1)[-1]).stem
    source = source.removesuffix(".stem")
    title = report.title or source or report.track_id
    return {
        "name": f"{report.artist} - {title}" if report.artist else title,
        "artist": report.artist,
        "title": title,
        "album": report.album,
        "genre": report.genre,
        "isrc": report.isrc,
        "stem": stem,
        "ext": ext,
        "track_id": report.track_id,
        "model": report.stem_set.model,
        "source": source or report.track_id,
    }


class _Safe(dict[str, str]):
    """Values without what would part folders; what isn't known is "Unknown …"."""

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name).strip()
        return value.replace("/", "_").replace("\\", "_") or f"Unknown {name}"


def _fields_of(part: str) -> list[str]:
    try:
        parsed = list(Formatter().parse(part))
    except ValueError as error:
        raise SettingsError(
            f"the template's {part!r} can't be read: {error}.", remedy="Write {{ for a brace."
        ) from error
    names = []
    for _, name, form, conversion in parsed:
        if name is None:
            continue
        if name not in FIELDS or form or conversion:
            near = get_close_matches(name, FIELDS, n=1)
            hint = f" Do you mean {{{near[0]}}}?" if near and near[0] != name else ""
            raise SettingsError(
                f"the template has no field {{{name}}}.{hint}",
                remedy=f"The fields are {', '.join(f'{{{one}}}' for one in FIELDS)}.",
            )
        names.append(name)
    return names


def _name(text: str) -> str:
    """A name for Linux, macOS and Windows: no device, no control character, no dot at an end."""
    safe = sanitize_filename(text, replacement_text="_", platform="universal", max_len=10_000)
    safe = safe.strip().rstrip(". ").lstrip(" ") or "_"
    if safe.startswith("."):
        safe = f"_{safe[1:]}"
    return safe.encode("utf-8")[:_LONGEST_BYTES].decode("utf-8", "ignore").rstrip(". ")
