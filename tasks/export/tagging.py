"""Tags and covers of exported files, and the mark by which an export knows its own."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from tasks.contracts import TrackReport
from tasks.export.encoding import Format

_VORBIS = {"title": "title", "artist": "artist", "album": "album", "genre": "genre"}
_MP4 = {"title": "\xa9nam", "artist": "\xa9ART", "album": "\xa9alb", "genre": "\xa9gen"}


def mark_of(report: TrackReport, what: str) -> str:
    """Return the comment that names what a file holds."""
    return f"stemwright {report.track_id}/{report.separation_id} {what}"


def read_mark(path: Path) -> str:
    """Return the mark of a file, empty where it has none or is no audio."""
    import mutagen

    try:
        tags: Any = getattr(mutagen.File(path), "tags", None)
    except (mutagen.MutagenError, OSError):
        return ""
    if tags is None:
        return ""
    for name in ("comment", "\xa9cmt", "COMM::eng"):
        try:
            found = tags.get(name)
        except (KeyError, ValueError):
            continue
        if found:
            return str(found[0] if isinstance(found, list) else found)
    return ""


def write_tags(
    path: Path, form: Format, report: TrackReport, stem: str, mark: str, cover: bytes | None
) -> None:
    """Write a track's tags into the file of one of its stems; the title says which."""
    title = report.title or report.label
    known = {
        "title": f"{title} ({stem.replace('_', ' ')})" if stem else title,
        "artist": report.artist,
        "album": report.album,
        "genre": report.genre,
    }
    given = {name: text for name, text in known.items() if text}
    if form in ("mp3", "wav"):
        _write_id3(path, form, given, mark, cover)
    elif form == "m4a":
        _write_mp4(path, given, mark, cover)
    else:
        _write_vorbis(path, form, given, mark, cover)


def cover_of(source: Path) -> bytes | None:
    """Return the cover picture in an audio file, JPEG or PNG, if there is one."""
    import av

    try:
        with av.open(str(source)) as container:
            for stream in container.streams.video:
                if stream.disposition & av.stream.Disposition.attached_pic:
                    packet = next(container.demux(stream), None)
                    data = bytes(packet) if packet is not None else b""
                    return data if data.startswith((b"\xff\xd8", b"\x89PNG")) else None
    except (av.FFmpegError, OSError):
        return None
    return None


def _write_id3(
    path: Path, form: Format, given: dict[str, str], mark: str, cover: bytes | None
) -> None:
    import mutagen.id3
    import mutagen.mp3
    import mutagen.wave

    id3: Any = mutagen.id3
    mp3: Any = mutagen.mp3
    wave: Any = mutagen.wave
    file = mp3.MP3(path) if form == "mp3" else wave.WAVE(path)
    if file.tags is None:
        file.add_tags()
    frames = {"title": id3.TIT2, "artist": id3.TPE1, "album": id3.TALB, "genre": id3.TCON}
    for name, text in given.items():
        file.tags.add(frames[name](encoding=3, text=text))
    file.tags.add(id3.COMM(encoding=3, lang="eng", desc="", text=mark))
    if cover:
        file.tags.add(id3.APIC(encoding=3, mime=_mime(cover), type=3, desc="", data=cover))
    file.save()


def _write_mp4(path: Path, given: dict[str, str], mark: str, cover: bytes | None) -> None:
    import mutagen.mp4

    mp4: Any = mutagen.mp4
    file = mp4.MP4(path)
    for name, text in given.items():
        file[_MP4[name]] = text
    file["\xa9cmt"] = mark
    if cover:
        kind = mp4.AtomDataType.PNG if _mime(cover) == "image/png" else mp4.AtomDataType.JPEG
        file["covr"] = [mp4.MP4Cover(cover, imageformat=kind)]
    file.save()


def _write_vorbis(
    path: Path, form: Format, given: dict[str, str], mark: str, cover: bytes | None
) -> None:
    import mutagen.flac
    import mutagen.oggopus

    flac: Any = mutagen.flac
    ogg: Any = mutagen.oggopus
    file = flac.FLAC(path) if form == "flac" else ogg.OggOpus(path)
    for name, text in given.items():
        file[_VORBIS[name]] = text
    file["comment"] = mark
    if cover:
        picture = flac.Picture()
        picture.type, picture.mime, picture.data = 3, _mime(cover), cover
        if form == "flac":
            file.add_picture(picture)
        else:
            file["metadata_block_picture"] = base64.b64encode(picture.write()).decode("ascii")
    file.save()


def _mime(cover: bytes) -> str:
    return "image/png" if cover.startswith(b"\x89PNG") else "image/jpeg"
