"""Which file a service is given of a track: the mixture, or the source's own bytes."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import Field

from tasks.contracts import Mixture, StemFormat, Value

log = logging.getLogger(__name__)
_BLOCK = 1 << 18
# A RIFF's sizes are 32-bit.
_WAV_LIMIT = 4_000_000_000


class UploadPolicy(Value):
    """What is uploaded. Either way the stems have to fit the mixture."""

    format: StemFormat | None = Field(
        default=None, title="Upload format", description="Of the mixture; None leaves it as it is."
    )
    own_bytes: bool = Field(
        default=False, title="The source's own bytes", description="Instead of the mixture."
    )


def upload_of(mixture: Mixture, policy: UploadPolicy, scratch: Path) -> Path:
    """The file to upload; one that has to be made is made in `scratch`, without loss.

    Raises:
        OSError: The disk doesn't take it.
    """
    if policy.own_bytes:
        if mixture.source_path is not None and mixture.source_path.is_file():
            return mixture.source_path
        log.info("%s: the source is gone, so the mixture is uploaded", mixture.ref.label)
    return _transcoded(mixture, policy.format, scratch) if policy.format else mixture.path


def _transcoded(mixture: Mixture, format: StemFormat, scratch: Path) -> Path:
    import soundfile

    info = soundfile.info(str(mixture.path))
    size = mixture.frames * mixture.channels * 4
    # Only whole numbers go both ways without loss.
    lossless = info.subtype in ("PCM_16", "PCM_24") and (format == "flac" or size < _WAV_LIMIT)
    if info.format.lower() == format or not lossless:
        return mixture.path
    path = scratch / f"mixture.{format}"
    with (
        soundfile.SoundFile(str(mixture.path)) as source,
        soundfile.SoundFile(
            str(path), "w", source.samplerate, source.channels, info.subtype, format=format.upper()
        ) as made,
    ):
        for block in source.blocks(_BLOCK, dtype="int32", always_2d=True):
            made.write(block)
    return path
