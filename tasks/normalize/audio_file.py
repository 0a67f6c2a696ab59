"""A file with an audio stream in it: opened, its best stream chosen, its packets hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import av

from tasks.contracts import SourceFormat
from tasks.errors import CorruptAudio, EmptyAudio, NotAudio
from tasks.normalize import ogg
from tasks.normalize.avio import ReadFile
from tasks.normalize.formats import describe
from tasks.normalize.xing import id3_size

# What files of the common containers begin with: one that does but can't be opened is damaged.
_BEGINNINGS = {
    b"RIFF": "a WAV file",
    b"RF64": "a WAV file",
    b"FORM": "an AIFF file",
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"\x1aE\xdf\xa3": "a Matroska or WebM file",
    b"wvpk": "a WavPack file",
    b"TTA1": "a TTA file",
    b"MAC ": "a Monkey's Audio file",
    b"caff": "a CAF file",
}

# Decoders that check each frame's checksum, but only when asked to.
_CHECKED_CODECS = ("flac", "tta", "wavpack")
_WMA = ("wmav1", "wmav2")


class AudioFile:
    """The best audio stream of a file. Use it as a context manager.

    Best is the one marked as default, then the one with most channels, then the highest bit
    rate; of a `.stem.mp4` it is the first, the mixture. Cover art is a video stream and never
    chosen.

    Args:
        path: A file on the local disk.
        whole: Look through an Ogg file for chained streams; off where only headers matter.

    Raises:
        NotAudio: It holds no audio stream, or none that can be decoded here.
        EmptyAudio: It has no bytes.
        CorruptAudio: It begins like an audio file, but can't be opened as one.
        OSError: It can't be read.
    """

    def __init__(self, path: Path, *, whole: bool = True) -> None:
        self.path = path
        self.packet_bytes = 0
        if path.is_dir():
            raise NotAudio("it is a folder.")
        self.file = ReadFile(path)
        self._links = ogg.links(self.file) if whole else []
        self.link: ogg.Link | None = None
        self._container: Any = None
        try:
            self._open_part(self._links[0] if self._links else None)
        except BaseException:
            self.close()
            raise
        self._digest = hashlib.sha256(self.codec.encode("ascii"))

    def _open_part(self, link: ogg.Link | None) -> None:
        self.link = link
        if link is not None:
            self.file.window(link.start, link.end)
        if self._container is not None:
            self._container.close()
        self._container = _open(self.file, self.path)
        self.stream = _best_stream(self._container, self.path)
        if not _is_described(self.stream.codec_context):
            raise _unreadable(self.file)
        self.codec: str = self.stream.codec_context.codec.canonical_name
        if self.codec in _CHECKED_CODECS:
            self.stream.codec_context.options = {"err_detect": "crccheck+explode"}
        self.priming = 0
        if self.codec in _WMA and self._is_from_ffmpeg():
            # The decoder leaves out two blocks, as other encoders put them in front; this one
            # puts one there.
            self.stream.codec_context.options = {"flags2": "+skip_manual"}
            self.priming = 1
        self.end_pts = 0
        self.skipped_bytes = 0

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self.file.close()

    @property
    def chained(self) -> int:
        """How many streams follow one another in the file."""
        return max(len(self._links), 1)

    def parts(self) -> Iterator[bool]:
        """Open each of a chain of streams in turn; most files have one.

        Yields:
            Whether it could be opened. The file's `stream`, `packets` and `link` are then its own.

        Raises:
            OSError: The file can't be read on.
        """
        yield True
        for link in self._links[1:]:
            try:
                self._open_part(link)
            except (CorruptAudio, NotAudio):
                yield False
            else:
                yield True

    def packets(self) -> Iterator[Any]:
        """The stream's packets as demuxed.

        `skipped_bytes` is then what lies between a packet and the one before it, of any stream.

        Raises:
            OSError: The file can't be read on.
            av.FFmpegError: The container is damaged here.
        """
        end: int | None = None
        try:
            # All streams, so that what lies between two packets is what nobody could make out.
            for packet in self._container.demux():
                if packet.pos is not None:
                    self.skipped_bytes = packet.pos - end if end is not None else 0
                    end = packet.pos + packet.size
                # An empty packet would flush the decoder, in mid-stream too.
                if packet.stream.index != self.stream.index or not packet.size:
                    continue
                if packet.pts is not None:
                    self.end_pts = max(self.end_pts, packet.pts + (packet.duration or 0))
                data = memoryview(packet)
                self._digest.update(data)
                self.packet_bytes += data.nbytes
                yield packet
        except av.FFmpegError:
            # A disk that can't be read looks to FFmpeg like a file that ends.
            self.file.check()
            raise
        self.file.check()

    def flush(self) -> list[Any]:
        """The frames that the decoder held back."""
        return list(self.stream.codec_context.decode(None))

    @property
    def track_id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the codec's name and the packets so far."""
        return self._digest.hexdigest()[:16]

    @property
    def kind(self) -> str:
        """The first of FFmpeg's names for the container: "mov", "matroska", "mp3"."""
        name: str = self._container.format.name
        return name.split(",")[0]

    @property
    def declared_s(self) -> float | None:
        """The seconds that the headers of the part declare, good for a plan and not for a check."""
        if self.stream.duration is not None:
            return float(self.stream.duration * self.stream.time_base)
        whole = self._container.duration
        return None if whole is None else float(whole / av.time_base)

    def _is_from_ffmpeg(self) -> bool:
        tags = self._container.metadata
        writer: str = tags.get("encoder") or tags.get("software") or ""
        # Matroska tells the priming itself.
        return writer.startswith("Lavf") and self.kind != "matroska"

    @property
    def is_lossy(self) -> bool:
        """Whether the stream's codec always loses something."""
        return not self.stream.codec_context.codec.lossless

    @property
    def streams(self) -> int:
        """How many streams the container holds, of any kind."""
        return len(self._container.streams)

    def format(self) -> SourceFormat:
        """What the headers say of the stream."""
        return describe(self._container, self.stream, self.path)


def _open(file: ReadFile, path: Path) -> Any:
    if path.stat().st_size == 0:
        raise EmptyAudio("the file is empty.", remedy="Fetch or export the file again.")
    try:
        return _open_container(file)
    except (av.FFmpegError, OSError, ValueError) as error:
        file.check()
        refusal = _unreadable(file)
        container = _behind_tag(file)
        if container is None:
            raise refusal from error
        return container


def _open_container(file: ReadFile) -> Any:
    file.seek(0)
    return av.open(
        file, container_options={"protocol_whitelist": "none"}, metadata_errors="replace"
    )


def _behind_tag(file: ReadFile) -> Any:
    """The container behind an ID3 tag, which some demuxers stumble over; None if there is none."""
    file.seek(0)
    size = id3_size(file.read(10))
    if not 0 < size < file.size:
        return None
    file.drop(size)
    try:
        return _open_container(file)
    except (av.FFmpegError, OSError, ValueError):
        file.check()
        return None


def _unreadable(file: ReadFile) -> CorruptAudio | NotAudio:
    file.seek(0)
    kind = _beginning(file.read(16))
    if kind is None:
        return NotAudio("it is no audio file of any known format.")
    return CorruptAudio(
        f"it begins like {kind} but can't be opened as one: it is damaged or truncated."
    )


def _beginning(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return "an MP4 file"
    return next((kind for magic, kind in _BEGINNINGS.items() if head.startswith(magic)), None)


def _is_described(context: Any) -> bool:
    # Junk that a demuxer took for its own has a stream, but nothing in it says what of.
    known = context.format is not None and context.sample_rate > 0
    return bool(known and context.layout.nb_channels > 0)


def _best_stream(container: Any, path: Path) -> Any:
    streams = list(container.streams.audio)
    usable = [stream for stream in streams if stream.codec_context is not None]
    if streams and not usable:
        raise NotAudio("its audio is in a codec that FFmpeg's libraries can't decode.")
    if not usable:
        pictures = av.stream.Disposition.attached_pic
        moving = [s for s in container.streams.video if not s.disposition & pictures]
        raise NotAudio("it holds video but no audio." if moving else "it holds no audio stream.")

    if ".stem." in path.name.lower():
        return usable[0]

    def merit(stream: Any) -> tuple[bool, int, int, int]:
        context = stream.codec_context
        default = bool(stream.disposition & av.stream.Disposition.default)
        return default, context.layout.nb_channels, context.bit_rate or 0, -stream.index

    return max(usable, key=merit)
