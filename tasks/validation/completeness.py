"""Exactly the stems expected, each sound and of the mixture's shape, summing to the mixture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from tasks.audio.block_reader import energy
from tasks.audio.decibels import Float64
from tasks.audio.side_by_side import Listener, Passage, SideBySide, Signal
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
from tasks.validation.stem_file import ClippedRuns, full_scale, sha256_of, size_of, why_unreadable


def check_completeness(
    mixture: Mixture,
    stems: StemSet,
    policy: CompletenessPolicy | None = None,
    listeners: Sequence[Listener] = (),
) -> Completeness:
    """Check a stem set against the mixture it was made from.

    All files are read once, side by side, in blocks of 1.5 s, so memory doesn't grow with the
    length. `peak_dbfs` and `rms_dbfs` are of the files as written; silence and the residual are
    judged with the stems' common gain undone.

    A stem that is absent or broken (undecodable, wrong shape, not finite, clipped by writing) is
    in `missing` and has a sentence in `problems`. A silent stem is in `silent` and is no problem,
    unless all are silent and the mixture isn't. Problems without anything missing (an extra stem,
    a sum far from the mixture, all silent) concern the whole set.

    Args:
        mixture: The mixture.
        stems: What was made of it.
        policy: Limits; the default ones if None.
        listeners: Who else takes in what is read, so that it is decoded once for all. They hear
            the whole of a set in which nothing is missing; of others, the beginning or nothing.

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
    paths = {name: stems.stems[name] for name in stems.expected if name in stems.stems}
    whole = len(paths) == len(stems.expected)
    with SideBySide(mixture.path, paths, gain=stems.gain, stage="validate") as signals:
        clipped = {name: ClippedRuns(signal.channels) for name, signal in signals.stems.items()}
        residual = _read(signals, clipped, listeners if whole else ())
    mix = signals.mixture
    _refuse_broken_mixture(mix, mixture)

    mixture_silent = mixture.silent or mix.rms_dbfs <= NOTHING_DBFS
    under = math.inf if mixture_silent else mix.rms_dbfs - UNDER_MIXTURE_DB
    silence_dbfs = min(policy.silence_dbfs, under)
    total = sum(signal.energy for signal in signals.stems.values())
    checks = {
        name: _check(name, signal, mixture, stems.gain, silence_dbfs, clipped[name].samples, total)
        for name, signal in signals.stems.items()
    }
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

    def __init__(self) -> None:
        self.energy = 0.0
        self._frames = 0
        self._sums: Float64 | float = 0.0
        self._product = self._mixture = 0.0

    def add(self, passage: Passage) -> None:
        """Take in the next passage."""
        rest, mixture = passage.rest, passage.samples[0]
        self.energy += energy(rest)
        self._frames += rest.shape[1]
        self._sums = self._sums + rest.sum(axis=1)
        self._product += float(np.vdot(rest, mixture))
        self._mixture += energy(mixture)

    def nature(self) -> str:
        """Return what most of it is, as the end of a sentence."""
        means = np.asarray(self._sums) / max(self._frames, 1)
        if self._frames * float(np.square(means).sum()) > self.energy / 2:
            offset = float(means[np.abs(means).argmax()])
            return f"it is a constant offset of {offset:+.3f}"
        if self._product**2 > self.energy * self._mixture / 2:
            gain = 1 - self._product / self._mixture
            return f"their sum is the mixture multiplied by {gain:.2f}"
        return "they hold what the mixture doesn't"


def _read(
    signals: SideBySide, clipped: dict[str, ClippedRuns], listeners: Sequence[Listener]
) -> _Residual:
    """Read every file to its end; return mixture - sum of stems / gain."""
    residual = _Residual()
    for passage in signals:
        for name, stem in signals.stems.items():
            clipped[name].update(full_scale(stem), full_scale(signals.mixture))
        if passage is None:
            continue
        residual.add(passage)
        for listener in listeners:
            listener.update(passage)
    return residual


def _refuse_broken_mixture(mix: Signal, mixture: Mixture) -> None:
    cause = ""
    if problem := why_unreadable(mix):
        cause = f"the mixture can't be read: {problem}"
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
    name: str,
    signal: Signal,
    mixture: Mixture,
    gain: float,
    silence_dbfs: float,
    clipped: int,
    total_energy: float,
) -> StemCheck:
    level = signal.rms_dbfs - 20 * math.log10(gain)
    return StemCheck(
        name=name,
        path=signal.path,
        sha256=sha256_of(signal.path),
        bytes=size_of(signal.path),
        frames=signal.frames,
        silent=signal.frames > 0 and level < silence_dbfs,
        peak_dbfs=signal.peak_dbfs,
        rms_dbfs=signal.rms_dbfs,
        clipped_samples=clipped,
        energy_share=signal.energy / total_energy if total_energy > 0 else None,
        problems=tuple(_file_problems(signal, mixture, clipped)),
    )


def _file_problems(signal: Signal, mixture: Mixture, clipped: int) -> Iterator[str]:
    if problem := why_unreadable(signal):
        yield problem
        return
    if signal.sample_rate_hz != mixture.sample_rate_hz:
        yield (
            f"its sample rate is {signal.sample_rate_hz} Hz, where the mixture has "
            f"{mixture.sample_rate_hz} Hz."
        )
    if signal.channels != mixture.channels:
        yield f"it has {signal.channels} channel(s), where the mixture has {mixture.channels}."
    if signal.frames != mixture.frames:
        yield f"it holds {signal.frames:,} frames, where the mixture has {mixture.frames:,}."
    if not signal.finite:
        yield "it has samples that are not finite numbers."
    if clipped:
        yield (
            f"writing clipped it: {clipped:,} samples sit at full scale, in runs of three or "
            "more, where the mixture doesn't."
        )


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
