"""Exactly the stems expected, each sound and of the mixture's shape, summing to the mixture."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tasks.contracts import (
    NOTHING_DBFS,
    UNDER_MIXTURE_DB,
    Completeness,
    CompletenessPolicy,
    Mixture,
    StemCheck,
    StemSet,
)
from tasks.errors import CorruptAudio, ProtocolError
from tasks.validation.stem_file import AudioFile, Samples, sha256_of, size_of

BLOCK_FRAMES = 1 << 16


def check_completeness(
    mixture: Mixture, stems: StemSet, policy: CompletenessPolicy | None = None
) -> Completeness:
    """Check a stem set against the mixture it was made from.

    All files are streamed once, side by side, in blocks of 65,536 frames, so memory doesn't grow
    with the length. Energies are summed in float64. `peak_dbfs` and `rms_dbfs` are of the files as
    written; silence and the residual are judged with the stems' common gain undone.

    A stem that is absent or broken (undecodable, wrong shape, not finite, clipped by writing) is
    in `missing` and has a sentence in `problems`. A silent stem is in `silent` and is no problem,
    unless all are silent and the mixture isn't. Problems without anything missing (an extra stem,
    a sum far from the mixture, all silent) concern the whole set.

    Returns:
        The findings; `residual_db` is 10 log10(sum (x - sum s_i / gain)^2 / sum x^2), null where
        not every stem of the model was kept, one is missing, or the mixture is silent.

    Raises:
        CorruptAudio: The mixture itself can't be read or isn't as long as it says.
        ProtocolError: The stems' common gain isn't a positive number.
    """
    if not (math.isfinite(stems.gain) and stems.gain > 0):
        raise ProtocolError(
            f"the stems' common gain is {stems.gain}, where a positive number is needed.",
            track=mixture.ref.label,
            stage="validate",
        )
    policy = policy or CompletenessPolicy()
    mix = AudioFile(mixture.path)
    files = {name: AudioFile(stems.stems[name]) for name in stems.expected if name in stems.stems}
    try:
        residual = _stream(mix, list(files.values()), stems.gain)
    finally:
        for file in (mix, *files.values()):
            file.close()
    _refuse_broken_mixture(mix, mixture)

    mixture_silent = mixture.silent or mix.rms_dbfs <= NOTHING_DBFS
    under = math.inf if mixture_silent else mix.rms_dbfs - UNDER_MIXTURE_DB
    silence_dbfs = min(policy.silence_dbfs, under)
    checks = {
        name: _check(name, file, mixture, stems.gain, silence_dbfs) for name, file in files.items()
    }
    checks = _with_energy_shares(checks, files)
    missing = tuple(name for name in stems.expected if name not in checks or checks[name].problems)
    residual_db = None
    if stems.all_stems and not missing and not mixture_silent:
        residual_db = 10 * math.log10(max(residual.energy / mix.energy, 1e-20))
    set_problems = _set_problems(stems, checks, residual_db, residual, policy)
    return Completeness(
        expected=stems.expected,
        present=tuple(name for name in stems.expected if name not in missing),
        missing=missing,
        silent=tuple(name for name, check in checks.items() if check.silent),
        problems=(
            *_stem_problems(stems, checks),
            *(() if missing or mixture_silent else set_problems),
        ),
        stems=checks,
        residual_db=residual_db,
    )


class _Residual:
    """The mixture minus the sum of the stems: how much it is, and what it is made of."""

    def __init__(self, channels: int) -> None:
        self.energy = 0.0
        self._frames = 0
        self._sums = np.zeros(channels)
        self._product = self._mixture = 0.0

    def add(self, rest: Samples, x: Samples) -> None:
        """Take in a block of it, and of the mixture, shapes (frames, channels)."""
        wide, mixture = rest.astype(np.float64), x.astype(np.float64)
        self.energy += float(np.square(wide).sum())
        self._frames += len(wide)
        self._sums += wide.sum(axis=0)
        self._product += float((wide * mixture).sum())
        self._mixture += float(np.square(mixture).sum())

    def nature(self) -> str:
        """What most of it is, as the end of a sentence."""
        means = self._sums / max(self._frames, 1)
        if self._frames * float(np.square(means).sum()) > self.energy / 2:
            offset = float(means[np.abs(means).argmax()])
            return f"it is a constant offset of {offset:+.3f}"
        if self._product**2 > self.energy * self._mixture / 2:
            gain = 1 - self._product / self._mixture
            return f"their sum is the mixture multiplied by {gain:.2f}"
        return "they hold what the mixture doesn't"


def _stream(mix: AudioFile, stems: list[AudioFile], gain: float) -> _Residual:
    """Read every file to its end in lock-step; what the sum of stems / gain leaves."""
    residual = _Residual(mix.channels)
    for x, blocks in _lock_step(mix, stems):
        clipping = mix.full_scale(x)
        rest = x.copy()
        for stem, block in zip(stems, blocks, strict=True):
            if block is None:
                continue
            stem.count_clipped(block, clipping)
            if block.shape == x.shape:
                rest -= block / np.float32(gain)
        residual.add(rest, x)
    for stem in stems:
        while (block := stem.read(BLOCK_FRAMES)) is not None:
            stem.count_clipped(block, None)
    return residual


def _lock_step(
    mix: AudioFile, stems: list[AudioFile]
) -> Iterator[tuple[Samples, list[Samples | None]]]:
    while (x := mix.read(BLOCK_FRAMES)) is not None:
        yield x, [stem.read(BLOCK_FRAMES) for stem in stems]


def _refuse_broken_mixture(mix: AudioFile, mixture: Mixture) -> None:
    cause = ""
    if mix.problems:
        cause = f"the mixture can't be read: {mix.problems[0]}"
    elif (mix.frames, mix.channels) != (mixture.frames, mixture.channels):
        cause = (
            f"the mixture's file holds {mix.frames:,} frames of {mix.channels} channels, where "
            f"normalization wrote {mixture.frames:,} of {mixture.channels}."
        )
    elif not mix.finite:
        cause = "the mixture has samples that are not finite numbers."
    if cause:
        raise CorruptAudio(cause, track=mixture.ref.label, stage="validate")


def _check(
    name: str, file: AudioFile, mixture: Mixture, gain: float, silence_dbfs: float
) -> StemCheck:
    level = file.rms_dbfs - 20 * math.log10(gain)
    return StemCheck(
        name=name,
        path=file.path,
        sha256=sha256_of(file.path),
        bytes=size_of(file.path),
        frames=file.frames,
        silent=file.frames > 0 and level < silence_dbfs,
        peak_dbfs=file.peak_dbfs,
        rms_dbfs=file.rms_dbfs,
        clipped_samples=file.clipped,
        energy_share=None,
        problems=tuple(_file_problems(file, mixture)),
    )


def _file_problems(file: AudioFile, mixture: Mixture) -> Iterator[str]:
    if file.problems:
        yield from file.problems
        return
    if file.sample_rate_hz != mixture.sample_rate_hz:
        yield (
            f"its sample rate is {file.sample_rate_hz} Hz, where the mixture has "
            f"{mixture.sample_rate_hz} Hz."
        )
    if file.channels != mixture.channels:
        yield f"it has {file.channels} channel(s), where the mixture has {mixture.channels}."
    if file.frames != mixture.frames:
        yield f"it holds {file.frames:,} frames, where the mixture has {mixture.frames:,}."
    if not file.finite:
        yield "it has samples that are not finite numbers."
    if file.clipped:
        yield (
            f"writing clipped it: {file.clipped:,} samples sit at full scale, in runs of three or "
            "more, where the mixture doesn't."
        )


def _with_energy_shares(
    checks: dict[str, StemCheck], files: dict[str, AudioFile]
) -> dict[str, StemCheck]:
    total = sum(file.energy for file in files.values())
    if total <= 0:
        return checks
    return {
        name: check.model_copy(update={"energy_share": files[name].energy / total})
        for name, check in checks.items()
    }


def _stem_problems(stems: StemSet, checks: dict[str, StemCheck]) -> Iterator[str]:
    for name in stems.expected:
        if name not in checks:
            yield f"{name}: it is missing; no file was written for it."
        else:
            yield from (f"{name}: {problem}" for problem in checks[name].problems)
    expected = ", ".join(stems.expected)
    for name in stems.stems:
        if name not in stems.expected:
            yield f"{name}: it is unexpected; the stems asked for are {expected}."


def _set_problems(
    stems: StemSet,
    checks: dict[str, StemCheck],
    residual_db: float | None,
    residual: _Residual,
    policy: CompletenessPolicy,
) -> Iterator[str]:
    if stems.all_stems and checks and all(check.silent for check in checks.values()):
        yield "every stem is silent, but the mixture isn't."
    elif residual_db is not None and residual_db > policy.max_residual_db:
        yield (
            f"the stems don't sum to the mixture: the residual is {residual_db:.1f} dB of the "
            f"mixture, where at most {policy.max_residual_db:.1f} dB is allowed; "
            f"{residual.nature()}."
        )
