"""What a stream is, in the words of `SourceFormat`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tasks.contracts import SourceFormat

Depth = Literal["8", "16", "24", "32", "32f", "64f"]

_SAMPLE_DEPTHS: dict[str, Depth] = {"u8": "8", "s16": "16", "flt": "32f", "dbl": "64f"}


def describe(container: Any, stream: Any, path: Path) -> SourceFormat:
    """What the headers say of a stream. The bit rate is null where no header has it."""
    context = stream.codec_context
    lossy = _is_lossy(context)
    layout: str = context.layout.name
    only_stream = len(container.streams) == 1
    return SourceFormat(
        container=_container_name(container.format.name, path),
        codec=context.codec.canonical_name,
        sample_rate_hz=context.sample_rate,
        channels=context.layout.nb_channels,
        # FFmpeg calls a layout that the file doesn't state "2 channels".
        channel_layout="" if layout.endswith("channels") else layout,
        bit_depth=None if lossy else _bit_depth(context, path),
        bit_rate_bps=context.bit_rate or (container.bit_rate if only_stream else None) or None,
        lossy=lossy,
    )


def _container_name(names: str, path: Path) -> str:
    # FFmpeg's demuxers are named after all they read: "mov,mp4,m4a,3gp,3g2,mj2".
    suffix = path.suffix.lower().lstrip(".")
    known = names.split(",")
    if suffix in known:
        return suffix
    return "mp4" if "mp4" in known else known[0]


def _is_lossy(context: Any) -> bool:
    codec = context.codec
    if codec.lossy and codec.lossless:
        # These codecs have both modes. WavPack's lossy one is rare, and not told by its profile.
        return bool(codec.canonical_name != "wavpack" and "MA" not in (context.profile or ""))
    return not codec.lossless


def _bit_depth(context: Any, path: Path) -> Depth:
    name = context.codec.canonical_name
    samples = context.format.name.removesuffix("p")
    if samples in _SAMPLE_DEPTHS:
        return _SAMPLE_DEPTHS[samples]
    bits = _header_bits(name, context.extradata or b"", path)
    # Decoders hand out 32-bit samples for everything above 16 bits.
    return "32" if bits > 24 else "24"


def _header_bits(codec: str, header: bytes, path: Path) -> int:
    if codec.startswith(("pcm_s32", "pcm_u32", "pcm_s64")):
        return 32
    if codec == "flac" and len(header) >= 34:
        # STREAMINFO: 20 bits of rate, 3 of channels, 5 of bits per sample less one (RFC 9639).
        return ((header[12] & 1) << 4 | header[13] >> 4) + 1
    if codec == "alac" and len(header) >= 18:
        # The magic cookie after its 12-byte atom header: frame length (4), version (1), depth.
        return header[17]
    if codec == "wavpack":
        return _wavpack_bits(path)
    return 24


def _wavpack_bits(path: Path) -> int:
    from mutagen import MutagenError
    from mutagen.wavpack import WavPackInfo

    try:
        with path.open("rb") as file:
            return int(WavPackInfo(file).bits_per_sample)  # type: ignore[no-untyped-call]
    except MutagenError:
        return 24  # WavPack inside another container
