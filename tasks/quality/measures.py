"""Every measure over one pass of the blocks, gathered for each stem and for the track."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tasks.audio.decibels import decibels
from tasks.quality.bleed import CoherenceLeak, Correlation, CrossEnergy
from tasks.quality.clipping import Clipping
from tasks.quality.dropouts import DropoutResult, Dropouts
from tasks.quality.entropy import AssignmentEntropy, SpectralShape
from tasks.quality.flux_anticorrelation import ContraryMotion
from tasks.quality.residual import Residual
from tasks.quality.spans import Span
from tasks.quality.spectra import Block, Float64
from tasks.quality.spectrum import LongTermSpectrum, Roughness
from tasks.quality.stem_swap import Exchange
from tasks.quality.stereo import Levels, StereoCollapse
from tasks.quality.timbre import Timbre

EST_SDR_RANGE_DB = (-15.0, 25.0)


@dataclass
class StemMeasures:
    """One stem's measures by name, where each is worst, and the stems it has to do with.

    Attributes:
        whole: From the track's beginning to its end, seconds.
        values: Measures; NaN where one can't be taken.
        spans: By measure, where it is worst, seconds.
        partners: By measure, the other stem concerned.
    """

    name: str
    whole: Span
    values: dict[str, float] = field(default_factory=dict)
    spans: dict[str, Span | None] = field(default_factory=dict)
    partners: dict[str, str] = field(default_factory=dict)

    def worst_span(self, *measures: str) -> Span:
        """Where the first of the measures that knows it is worst.

        Else where the stem fits the mixture worst, or the whole track: of a measure of the whole,
        such as the gain, there is no worst place.
        """
        known = (self.spans.get(measure) for measure in (*measures, "est_sdr_db"))
        return next((span for span in known if span), self.whole)


@dataclass
class TrackMeasures:
    """The track's measures, and its stems'."""

    duration_s: float
    values: dict[str, float]
    residual_span: Span | None
    stems: list[StemMeasures]


class _Accumulator(Protocol):
    def update(self, block: Block) -> object: ...


class Measures:
    """Takes a separation block by block.

    Args:
        names: The stems.
        all_stems: Whether these are all stems of the model: the residual, what is missing and the
            assignment entropy mean something only then.
        absent_db: A stem this far under the mixture is left out of the least-squares gains.
    """

    def __init__(self, names: Sequence[str], *, all_stems: bool, absent_db: float) -> None:
        stems = len(names)
        self._names = tuple(names)
        self._absent_db = absent_db
        self._end_s = 0.0
        self._levels = Levels(stems)
        self._shape = SpectralShape(stems)
        self._cross = CrossEnergy(stems)
        self._correlation = Correlation(stems)
        self._rough = Roughness(stems)
        self._motion = ContraryMotion(stems)
        self._spectrum = LongTermSpectrum(stems)
        self._timbre = Timbre(stems)
        self._dropouts = Dropouts(all_stems=all_stems)
        self._clipping = Clipping(stems)
        self._leak = CoherenceLeak(stems) if stems > 1 else None
        self._exchange = Exchange(stems) if stems > 1 else None
        self._assignment = AssignmentEntropy(stems) if stems > 1 and all_stems else None
        self._residual = Residual(stems) if all_stems else None
        self._collapse = StereoCollapse(stems) if all_stems else None

    def take(self, blocks: Iterable[Block]) -> bool:
        """Feed every block to every measure; False if there was none."""
        accumulators: list[_Accumulator] = [
            value for value in vars(self).values() if hasattr(value, "update")
        ]
        block = None
        for block in blocks:
            for accumulator in accumulators:
                accumulator.update(block)
        self._end_s = block.end_s if block else 0.0
        return block is not None

    def result(self) -> TrackMeasures:
        stems = [StemMeasures(name, (0.0, self._end_s)) for name in self._names]
        track: dict[str, float] = {}
        self._put_levels(stems, track)
        self._put_shape(stems, track)
        missing = self._put_residual(stems, track)
        self._put_estimate(stems, missing)
        self._put_sharing(stems, track)
        self._put_exchange(stems)
        self._put_defects(stems)
        span = self._residual.result().half_second if self._residual else None
        return TrackMeasures(self._end_s, track, span, stems)

    def _put_levels(self, stems: list[StemMeasures], track: dict[str, float]) -> None:
        energy, rms = self._levels.energy, self._levels.rms_dbfs
        width = self._levels.side_mid_db()
        track["rms_dbfs"], track["side_mid_db"] = float(rms[0]), float(width[0])
        relative = decibels(energy[1:], energy[0])
        put(stems, "relative_energy_db", relative)
        put(stems, "rms_dbfs", rms[1:])
        put(stems, "side_mid_db", width[1:])
        put(stems, "d_side_mid_db", width[1:] - width[0])
        gains = self._correlation.gains(relative >= self._absent_db)
        if self._residual is None:
            # Without all stems the rest of the mixture is laid to those that are here.
            gains = np.full_like(gains, np.nan)
        put(stems, "ls_gain", gains)
        put(stems, "ls_gain_error", np.abs(gains - 1))

    def _put_shape(self, stems: list[StemMeasures], track: dict[str, float]) -> None:
        entropy, delta, flatness = self._shape.result()
        bandwidth, cliff, cliff_rel, *_ = self._spectrum.result()
        track["spectral_entropy"], track["spectral_flatness"] = (
            float(entropy[0]),
            float(flatness[0]),
        )
        track["bandwidth_hz"], track["cliff_db"] = float(bandwidth[0]), float(cliff[0])
        put(stems, "spectral_entropy", entropy[1:])
        put(stems, "spectral_entropy_delta", delta)
        put(stems, "spectral_flatness", flatness[1:])
        put(stems, "bandwidth_hz", bandwidth[1:])
        put(stems, "cliff_db", cliff[1:])
        put(stems, "cliff_rel_db", cliff_rel)
        put(stems, "rough_db", *self._rough.result())
        put(stems, "contrary_motion", *self._motion.result())
        for name, values in self._timbre.result()._asdict().items():
            put(stems, name, values)

    def _put_residual(self, stems: list[StemMeasures], track: dict[str, float]) -> Float64:
        """Returns the residual shared out to the stems, 0 where it means nothing."""
        if self._residual is None:
            return np.zeros(len(stems))
        found = self._residual.result()
        track["residual_db"] = found.whole_db
        track["residual_half_second_db"] = found.half_second_db
        track["residual_band_db"], track["residual_band_hz"] = found.worst_band()
        for band_db, hz in zip(found.band_db, found.band_hz, strict=True):
            track[f"residual_from_{hz:.0f}_hz_db"] = float(band_db)
        put(stems, "missing_db", decibels(found.missing), found.missing_worst)
        return found.missing

    def _put_estimate(self, stems: list[StemMeasures], missing: Float64) -> None:
        cross, worst = self._cross.result()
        put(stems, "cross_db", decibels(cross))
        put(stems, "est_sdr_db", np.clip(-decibels(cross + missing), *EST_SDR_RANGE_DB), worst)

    def _put_sharing(self, stems: list[StemMeasures], track: dict[str, float]) -> None:
        if self._assignment is not None:
            shared, track["assignment_entropy"] = self._assignment.result()
            put(stems, "assignment_entropy", shared)
        if self._leak is None:
            return
        leak_db, partner, worst = self._leak.result()
        correlation, with_stem = self._correlation.largest()
        put(stems, "leak_db", leak_db, worst)
        put(stems, "xcorr_max", correlation, worst)
        for i, stem in enumerate(stems):
            stem.partners["xcorr_max"] = self._names[with_stem[i]]
            if partner[i] >= 0:
                stem.partners["leak_db"] = self._names[partner[i]]

    def _put_exchange(self, stems: list[StemMeasures]) -> None:
        if self._exchange is None:
            return
        found = self._exchange.result()
        put(stems, "exchanged_db", found.exchanged_db, found.spans)
        for stem, partner in zip(stems, found.partner, strict=True):
            if partner >= 0:
                stem.partners["exchanged_db"] = self._names[partner]

    def _put_defects(self, stems: list[StemMeasures]) -> None:
        ppm, worst = self._clipping.result()
        put(stems, "clip_ppm", ppm)
        if self._collapse is not None:
            put(stems, "collapse_db", *self._collapse.result())
        put(stems, "clip_log_ppm", np.log10(1 + ppm), worst)
        dropouts = self._dropouts.result()
        for stem, found in zip(stems, dropouts, strict=True):
            _put_interruptions(stem, found)
        if self._residual is not None:
            put(stems, "lost_db", self._lost_db(self._residual, dropouts))

    def _lost_db(self, residual: Residual, dropouts: Sequence[DropoutResult]) -> Float64:
        """What the stems have lost for certain, dB of their energy: over a cliff and in silences.

        Shared out by energy (`missing_db`), it is laid to whichever stems sound there.
        """
        spectrum = self._spectrum.result()
        above = residual.lost_above(spectrum.ends_at_bin, spectrum.end_level)
        return decibels(above + self._dropouts.lost(dropouts))


def _put_interruptions(stem: StemMeasures, found: DropoutResult) -> None:
    stem.values |= {
        "dead_frac": found.dead_frac,
        "dropout_frac": found.dropout_frac,
        "cuts_per_min": found.cuts_per_min,
        "tail_gap_s": found.tail_gap_s,
        "tail_cut_s": found.tail_cut_s,
    }
    stem.spans |= {
        "dropout_frac": found.longest,
        "cuts_per_min": found.first_cut,
        "tail_cut_s": found.tail,
    }


def put(
    stems: list[StemMeasures],
    measure: str,
    values: Float64,
    spans: Sequence[Span | None] | None = None,
) -> None:
    """Write a measure's value (stems,) and worst spans to each stem."""
    for i, stem in enumerate(stems):
        stem.values[measure] = float(values[i])
        if spans is not None:
            stem.spans[measure] = spans[i]
