"""From a source file to the mixture: decode, fold, resample, write, measuring on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import av

from tasks.contracts import (
    CHANNELS,
    AudioPolicy,
    BitDepth,
    Mixture,
    SourceAudio,
    SourceFormat,
)
from tasks.errors import CorruptAudio, StemwrightError
from tasks.normalize.audio_file import AudioFile
from tasks.normalize.decoding import Decoder
from tasks.normalize.identification import translate
from tasks.normalize.levels import Meter
from tasks.normalize.resampling import resample
from tasks.normalize.writing import MasterWriter, full_scale

_DEPTH_NAMES = {
    "24": "24-bit",
    "32": "32-bit integer",
    "32f": "32-bit float",
    "64f": "64-bit float",
}


def normalize(audio: SourceAudio, folder: Path, policy: AudioPolicy) -> Mixture:
    """Make the lossless stereo mixture of a source, as `folder/mixture.flac`.

    A policy of 32-bit float writes `mixture.wav` instead. The file appears whole or not at all,
    and the same input gives the same bytes. A source at the mixture's rate isn't resampled, so
    that integer samples pass through as they are. Samples beyond full scale (float sources, hot
    MP3s, a fold-down, the resampler's overshoot) cost a second pass with the gain at which the
    highest just fits. Memory doesn't grow with the length.

    Args:
        audio: The file, as ingested.
        folder: Where to write; made if it doesn't exist.
        policy: Rate, least bit depth, and the limits on duration.

    Returns:
        The mixture, with `frames = round(source frames * rate / source rate)` exactly. `silent`
        is true when no second of it has an RMS above -90 dBFS.

    Raises:
        NotAudio: It holds no audio.
        EmptyAudio: It holds none, or less than the policy's least.
        SourceRefused: It is longer than the policy allows.
        CorruptAudio: It is truncated or damaged, or has samples that are not finite numbers.
        SourceMissing, SourceUnreadable: It isn't there, or may not be read.
        DiskFull: The mixture doesn't fit.
    """
    try:
        return _mixture_of(audio, folder, policy)
    except (StemwrightError, av.FFmpegError, OSError) as error:
        raise translate(error, audio.ref.label) from error


@dataclass(frozen=True)
class _Pass:
    """What one pass over the source found and, unless it has overs, wrote."""

    track_id: str
    source: SourceFormat
    depth: BitDepth
    path: Path
    frames: int
    peak: float
    silent: bool
    promised_s: float | None
    damaged_s: float
    damages: int
    notes: tuple[str, ...]


def _mixture_of(audio: SourceAudio, folder: Path, policy: AudioPolicy) -> Mixture:
    gain = 1.0
    done = _run(audio.path, folder, policy, gain)
    notes = done.notes
    if done.peak > 1.0:
        gain = full_scale(done.depth) / done.peak
        notes = (*notes, _gain_note(done.peak, gain))
        _run(audio.path, folder, policy, gain)
    return Mixture(
        ref=audio.ref,
        track_id=done.track_id,
        path=done.path,
        sample_rate_hz=policy.sample_rate_hz,
        channels=CHANNELS,
        frames=done.frames,
        bit_depth=done.depth,
        gain=gain,
        peak=done.peak * gain,
        silent=done.silent,
        source=done.source,
        source_bytes=audio.bytes,
        fingerprint=audio.fingerprint,
        tags=audio.tags,
        notes=notes,
        source_promised_s=done.promised_s,
        source_damaged_s=done.damaged_s,
        source_damages=done.damages,
        source_path=None if audio.in_scratch else audio.path,
    )


def _run(path: Path, folder: Path, policy: AudioPolicy, gain: float) -> _Pass:
    meter = Meter(policy.sample_rate_hz)
    with AudioFile(path) as source:
        header = source.format()
        depth = _output_depth(header, policy)
        decoder = Decoder(source, policy)
        with MasterWriter(folder, depth, policy.sample_rate_hz) as writer:
            for samples in resample(decoder.blocks(), policy.sample_rate_hz):
                meter.add(samples)
                # Once there is an over this pass only measures: the next one writes.
                if meter.peak <= 1.0 or gain < 1.0:
                    writer.write(samples * gain)
            if not math.isfinite(meter.peak):
                raise CorruptAudio("its samples are too large to be audio.")
            if meter.peak <= 1.0 or gain < 1.0:
                writer.commit()
        notes = [*decoder.notes, *_depth_note(header, depth)]
        return _Pass(
            track_id=source.track_id,
            source=_measured(header, source.packet_bytes, decoder.decoded_s),
            depth=depth,
            path=writer.path,
            frames=meter.frames,
            peak=meter.peak,
            silent=meter.silent,
            promised_s=decoder.promised_s,
            damaged_s=decoder.damage.seconds,
            damages=decoder.damage.count,
            notes=tuple(notes),
        )


def _output_depth(source: SourceFormat, policy: AudioPolicy) -> BitDepth:
    if policy.bit_depth == "32f":
        return "32f"
    return "24" if source.bit_depth in _DEPTH_NAMES else policy.bit_depth


def _depth_note(source: SourceFormat, depth: BitDepth) -> list[str]:
    exact = {"16": ("8", "16"), "24": ("8", "16", "24"), "32f": ("8", "16", "24", "32f")}
    if source.bit_depth is None or source.bit_depth in exact[depth]:
        return []
    held = "32-bit float" if depth == "32f" else "24 bits, the most that FLAC holds here"
    return [f"Its {_DEPTH_NAMES[source.bit_depth]} samples were rounded to {held}."]


def _gain_note(peak: float, gain: float) -> str:
    over, change = 20 * math.log10(peak), 20 * math.log10(gain)
    return f"It peaks {over:.2f} dB over full scale: a gain of {change:.2f} dB makes it fit."


def _measured(header: SourceFormat, packet_bytes: int, decoded_s: float) -> SourceFormat:
    # Headers of VBR streams hold the rate of their first frame, or none.
    return header.model_copy(update={"bit_rate_bps": round(8 * packet_bytes / decoded_s)})
