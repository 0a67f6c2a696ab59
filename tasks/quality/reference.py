"""How good stems are, measured against the true ones: SI-SDR, and SDR as museval defines it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.audio.block_reader import AudioFile
from tasks.contracts import MaybeFloat, Value
from tasks.errors import IncompleteSeparation, SettingsError

Samples = npt.NDArray[np.floating[Any]]

PIECE_S = 20
"""Seconds that are held at a time; museval's frames are of one second, so it is a whole number."""


class StemTruth(Value):
    """One stem against the true one. Null where the reference stem, or the estimate, is silent.

    `sdr_db` is the median over `frames` frames of one second.
    """

    si_sdr_db: MaybeFloat = None
    sdr_db: MaybeFloat = None
    frames: int = 0
    silent: bool = False


class Agreement(Value):
    """How well estimated SI-SDRs agreed with the true ones, over `count` stems.

    `spearman` is the rank correlation, `mae_db` the mean absolute error and `bias_db` the median
    error (estimate minus truth); `coverage` is the share of intervals that hold the truth. Null
    where there are too few to tell.
    """

    count: int
    spearman: MaybeFloat = None
    mae_db: MaybeFloat = None
    bias_db: MaybeFloat = None
    coverage: MaybeFloat = None


def si_sdr_db(reference: Samples, estimate: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio, dB.

    `10 log10(|a s|² / |a s - e|²)` with `a = <e, s> / |s|²`: s the true signal, e its estimate.
    No mean is taken off. All channels are one vector with one `a`, so that a wrong level of one
    channel counts as distortion.

    Source: J. Le Roux, S. Wisdom, H. Erdogan, J. R. Hershey, "SDR – half-baked or well done?",
    ICASSP 2019, equation (3); it defines one channel.

    Args:
        reference: The true signal, shape (samples,) or (samples, channels).
        estimate: Of the same shape.

    Returns:
        +inf for a scaled copy, -inf for an estimate that is orthogonal to the truth or silent,
        not-a-number for a silent reference.

    Raises:
        ValueError: The shapes differ.
    """
    products = Products()
    products.add(reference, estimate)
    return products.si_sdr_db


@dataclass
class Products:
    """The inner products that SI-SDR takes, added up piece by piece in float64."""

    truth: float = 0.0
    cross: float = 0.0
    estimate: float = 0.0

    def add(self, reference: Samples, estimate: Samples) -> None:
        """Take in a piece of both signals, (samples,) or (samples, channels)."""
        if reference.shape != estimate.shape:
            raise ValueError(f"shapes differ: {reference.shape} and {estimate.shape}")
        s = np.asarray(reference, dtype=np.float64).ravel()
        e = np.asarray(estimate, dtype=np.float64).ravel()
        self.truth += float(s @ s)
        self.cross += float(s @ e)
        self.estimate += float(e @ e)

    @property
    def si_sdr_db(self) -> float:
        """See the function of that name."""
        if self.truth <= 0:
            return math.nan
        target = self.cross**2 / self.truth
        if target <= 0:
            return -math.inf
        # What is less than the sums' own rounding is nothing.
        distortion = self.estimate - target
        if distortion <= 1e-14 * self.estimate:
            return math.inf
        return 10 * math.log10(target / distortion)


def compare(
    references: Mapping[str, Path],
    estimates: Mapping[str, Path],
    *,
    gain: float = 1.0,
    reference_gains: Mapping[str, float] | None = None,
) -> dict[str, StemTruth]:
    """Hold the stems of one track against the true ones, those that both have.

    Streams over the files: what is held doesn't grow with the track. SDR is the median of
    museval's (version 4) frames of one second, as the SiSEC campaigns report it; a frame counts
    only where no stem, true or estimated, is silent. Stems that are silent as a whole are left
    out of it first: museval refuses them.

    Args:
        references: The reference stems' files.
        estimates: The estimated ones, of the same rate, channels and length.
        gain: What the estimates were multiplied by when they were written; it is undone.
        reference_gains: The same of the reference stems, those that were multiplied by anything.

    Raises:
        IncompleteSeparation: They have no stem in common, or their shapes differ.
        SettingsError: museval isn't installed.
        CorruptAudio, SourceMissing, SourceUnreadable: A file can't be read.
    """
    names = [name for name in references if name in estimates]
    if not names:
        raise IncompleteSeparation(
            "there is no reference stem to hold a stem against.", stage="score"
        )
    metrics = museval_metrics()
    products = {name: Products() for name in names}
    frames: list[npt.NDArray[np.float64]] = []
    heard = _heard(references, estimates, names)
    gains = reference_gains or {}
    levels = np.array([gains.get(name, 1.0) for name in names], dtype=np.float32)[:, None, None]
    for rate, true, made in _pieces(references, estimates, names):
        true, made = true / levels, made / np.float32(gain)
        for at, name in enumerate(names):
            products[name].add(true[at], made[at])
        rows = [at for at, name in enumerate(names) if heard[name]]
        if rows and true.shape[1] >= rate:
            frames.append(_framewise_sdr(metrics, true[rows], made[rows], rate))
    sdr = np.concatenate(frames, axis=1) if frames else np.empty((0, 0))
    live = [name for name in names if heard[name]]
    return {
        name: StemTruth(
            si_sdr_db=products[name].si_sdr_db,
            sdr_db=_median(sdr[live.index(name)]) if name in live and sdr.size else None,
            frames=int(np.isfinite(sdr[live.index(name)]).sum()) if name in live else 0,
            silent=products[name].truth <= 0,
        )
        for name in names
    }


def si_sdrs_db(
    references: Mapping[str, Path], estimates: Mapping[str, Path]
) -> dict[str, float | None]:
    """Return the SI-SDR of each stem in dB, and nothing that museval is needed for.

    Null where the true stem is silent or the estimate holds nothing of it.

    Raises:
        IncompleteSeparation: Their shapes differ.
        CorruptAudio, SourceMissing, SourceUnreadable: A file can't be read.
    """
    names = list(references)
    products = {name: Products() for name in names}
    for _, true, made in _pieces(references, estimates, names):
        for at, name in enumerate(names):
            products[name].add(true[at], made[at])
    found = {name: products[name].si_sdr_db for name in names}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def agreement(
    estimated: Sequence[float],
    true: Sequence[float],
    intervals: Sequence[tuple[float | None, float | None]] = (),
) -> Agreement:
    """How well estimated SI-SDRs agree with the true ones; pairs with an infinity are left out.

    Args:
        estimated: Estimates, dB.
        true: The true values, dB.
        intervals: Low and high end of each estimate's interval; none, or one each.
    """
    from scipy.stats import spearmanr

    blind, truth = np.asarray(estimated, dtype=float), np.asarray(true, dtype=float)
    known = np.isfinite(blind) & np.isfinite(truth)
    count = int(known.sum())
    if not count:
        return Agreement(count=0)
    error = blind[known] - truth[known]
    ends = np.array([_ends(pair) for pair in intervals], dtype=float).reshape(-1, 2)
    held: float | None = None
    if len(ends) == len(truth):
        low, high = ends[known].T
        given = np.isfinite(low) & np.isfinite(high)
        if given.any():
            inside = (low <= truth[known]) & (truth[known] <= high)
            held = float(inside[given].mean())
    ranked = count > 2 and np.ptp(blind[known]) > 0 and np.ptp(truth[known]) > 0
    return Agreement(
        count=count,
        spearman=float(spearmanr(blind[known], truth[known]).statistic) if ranked else None,
        mae_db=float(np.abs(error).mean()),
        bias_db=float(np.median(error)),
        coverage=held,
    )


def _ends(pair: tuple[float | None, float | None]) -> tuple[float, float]:
    low, high = pair
    return (math.nan if low is None else low, math.nan if high is None else high)


def _median(values: npt.NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else None


# --- museval ------------------------------------------------------------------------------------


@cache
def museval_metrics() -> Any:
    """museval's `metrics` module.

    Loaded by its file: the package itself can't be imported without an ffmpeg program, which
    its data loader wants and these metrics don't.

    Raises:
        SettingsError: museval isn't installed.
    """
    from importlib.util import find_spec, module_from_spec, spec_from_file_location

    package = find_spec("museval")
    places = package.submodule_search_locations if package else None
    if not places:
        raise SettingsError(
            "museval isn't installed; SDR is measured with it.",
            remedy="Install it: pip install 'stemwright[evaluate]'",
        )
    spec = spec_from_file_location("_museval_metrics", Path(places[0]) / "metrics.py")
    if spec is None or spec.loader is None:
        raise SettingsError("museval has no metrics module.", remedy="Install museval>=0.4.1.")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    # museval 0.4.1 catches `numpy.linalg.linalg.LinAlgError`, a name that newer numpys lack:
    # without it, stems with two equal channels end in an AttributeError.
    linalg = _extended(np.linalg, linalg=np.linalg)
    module.__dict__["np"] = _extended(np, linalg=linalg)
    return module


def _extended(module: ModuleType, **names: Any) -> ModuleType:
    copy = ModuleType(module.__name__)
    copy.__dict__.update(vars(module), **names)
    return copy


def _framewise_sdr(
    metrics: Any, true: Samples, made: Samples, rate: int
) -> npt.NDArray[np.float64]:
    """museval's SDR of each second, (stems, frames); not-a-number where one of them is silent.

    SDR is `|s|² / |e - s|²` in museval's "images" version: its distortion filters share that
    error out to ISR, SIR and SAR, and cancel in the sum. So a filter of one tap, and a piece of
    the track at a time, give the same SDRs as the whole track with 512 taps.
    """
    frames = np.full((len(true), true.shape[1] // rate), math.nan)
    silent = [bool(np.all(one.sum(axis=-1) == 0)) for one in (*true, *made)]
    if any(silent):
        return frames
    sdr: npt.NDArray[np.float64] = metrics.bss_eval(
        np.asarray(true, dtype=np.float64),
        np.asarray(made, dtype=np.float64),
        window=rate,
        hop=rate,
        compute_permutation=False,
        filters_len=1,
        framewise_filters=False,
        bsseval_sources_version=False,
    )[0]
    return sdr


# --- files --------------------------------------------------------------------------------------


def _heard(
    references: Mapping[str, Path], estimates: Mapping[str, Path], names: Sequence[str]
) -> dict[str, bool]:
    """Which stems have a sample other than zero, both the true and the estimated one."""
    return {name: _has_sound(references[name]) and _has_sound(estimates[name]) for name in names}


def _has_sound(path: Path) -> bool:
    with AudioFile(path, stage="score") as file:
        blocks = file.blocks(10 * file.sample_rate_hz)
        return any(np.any(block.sum(axis=1) != 0) for block in blocks)


def _pieces(
    references: Mapping[str, Path],
    estimates: Mapping[str, Path],
    names: Sequence[str],
) -> Iterator[tuple[int, Samples, Samples]]:
    """The rate, and pieces of both: (stems, samples, channels)."""
    with ExitStack() as stack:
        true, made = (
            [stack.enter_context(AudioFile(side[name], stage="score")) for name in names]
            for side in (references, estimates)
        )
        _demand_one_shape(true + made)
        rate = true[0].sample_rate_hz
        while True:
            some, others = (
                np.stack([file.read(PIECE_S * rate) for file in side]) for side in (true, made)
            )
            if not some.shape[1]:
                return
            yield rate, some, others


def _demand_one_shape(files: Sequence[AudioFile]) -> None:
    for file in files:
        if file.shape != files[0].shape:
            raise IncompleteSeparation(
                f"{file.name} has {file.shape_in_words}, where {files[0].name} has "
                f"{files[0].shape_in_words}.",
                stage="score",
                remedy="Stems and reference stems need one rate, channel count and length.",
            )
