"""What a measure is, and the register of them: one class in one file of `tasks.quality.measures`.

    from tasks.quality.measure import Measure, Measured, register

    @register
    class Loudest(Measure):
        name = "loudest"
        stem_columns: ClassVar = {"loudest_peak": float}

        def __init__(self, stems: int) -> None:
            self._peaks = np.zeros(stems)

        def update(self, block: Block) -> None:
            self._peaks = np.maximum(self._peaks, np.abs(block.samples[1:]).max(axis=(1, 2)))

        def result(self) -> Measured:
            return Measured(stems={"loudest_peak": self._peaks})

What is in `stem_columns` and `track_columns` becomes a column of the tables too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import ClassVar, Self, TypeVar

import numpy as np

from tasks import columns
from tasks.audio.decibels import Float64
from tasks.audio.side_by_side import Passage
from tasks.contracts import TrackReport
from tasks.quality.spans import Span
from tasks.quality.spectra import Block, Spectrometer


@dataclass(frozen=True)
class Scope:
    """What is measured.

    Attributes:
        names: The stems.
        all_stems: Whether these are all stems of the model: the residual, what is missing and the
            assignment entropy mean something only then.
        absent_db: A stem this far under the mixture is left out of the least-squares gains.
    """

    names: tuple[str, ...]
    all_stems: bool = True
    absent_db: float = -30.0

    @property
    def stems(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Measured:
    """What a measure found, by the names of its values.

    Attributes:
        stems: A value for each stem, (stems,); NaN where it can't be taken.
        track: A value of the track.
        spans: For each stem, where the value is worst, seconds.
        track_spans: Where the track's value is worst.
        partners: For each stem, the index of the other stem concerned; -1 for none.
    """

    stems: Mapping[str, Float64] = field(default_factory=dict)
    track: Mapping[str, float] = field(default_factory=dict)
    spans: Mapping[str, Sequence[Span | None]] = field(default_factory=dict)
    track_spans: Mapping[str, Span | None] = field(default_factory=dict)
    partners: Mapping[str, Sequence[int]] = field(default_factory=dict)


class Measure(ABC):
    """Takes in a separation block by block, and says what it found.

    Attributes:
        name: Of the measure, unique among them.
        stem_columns: Those of its stems' values that are columns of `reports/stems`, with types.
        track_columns: The same of the track's values and `reports/tracks`.
    """

    name: ClassVar[str]
    stem_columns: ClassVar[Mapping[str, columns.ColumnType]] = {}
    track_columns: ClassVar[Mapping[str, columns.ColumnType]] = {}

    def __init__(self, stems: int) -> None:  # noqa: B027
        """Make one that has heard nothing yet, for so many stems."""

    @classmethod
    def of(cls, scope: Scope, others: Others) -> Self | None:
        """Return one for a separation; None where the measure means nothing.

        Args:
            scope: What is measured.
            others: The separation's other measures, for `result`; not all are there before.
        """
        return cls(scope.stems)

    @abstractmethod
    def update(self, block: Block) -> object:
        """Take in the next block."""

    @abstractmethod
    def result(self) -> Measured:
        """Return what was found in all blocks, one at least."""


KEPT_BYTES = 31 << 20

M = TypeVar("M", bound=Measure)


class Others:
    """The measures of one separation, by their classes."""

    def __init__(self) -> None:
        self._made: dict[type[Measure], Measure] = {}

    def add(self, measure: Measure) -> None:
        self._made[type(measure)] = measure

    def get(self, kind: type[M]) -> M | None:
        """Return the measure of a class; None where it means nothing for this separation."""
        found = self._made.get(kind)
        return found if isinstance(found, kind) else None

    def all(self) -> tuple[Measure, ...]:
        return tuple(self._made.values())


_registered: dict[str, type[Measure]] = {}


def register(kind: type[M]) -> type[M]:
    """Add a measure, with its columns; the last one of a name counts."""
    _registered[kind.name] = kind
    for column in _columns(kind):
        columns.register(column)
    return kind


def unregister(kind: type[Measure]) -> None:
    """Take a measure out again, with its columns."""
    _registered.pop(kind.name, None)
    for column in _columns(kind):
        columns.unregister(column)


def registered() -> tuple[type[Measure], ...]:
    """Return all measures: those of the files of `tasks.quality.measures`, then others."""
    import_module("tasks.quality.measures")
    return tuple(_registered.values())


def _columns(kind: type[Measure]) -> list[columns.Column]:
    says = (kind.__doc__ or "").partition("\n")[0]
    tables: tuple[tuple[columns.Table, Mapping[str, columns.ColumnType]], ...] = (
        ("tracks", kind.track_columns),
        ("stems", kind.stem_columns),
    )
    return [
        columns.Column(name, table, type_, partial(_value, name), says)
        for table, types in tables
        for name, type_ in types.items()
    ]


def _value(name: str, report: TrackReport, stem: str) -> float | None:
    quality = report.quality.stems.get(stem) if stem else report.quality
    return quality.measures.get(name) if quality else None


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
        """Return where the first of the measures that knows it is worst.

        Else where the stem fits the mixture worst, or the whole track: of a measure of the whole,
        such as the gain, there is no worst place.
        """
        known = (self.spans.get(measure) for measure in (*measures, "est_sdr_db"))
        return next((span for span in known if span), self.whole)


@dataclass
class TrackMeasures:
    """The track's measures, and its stems': small, and all that a score is made of.

    Attributes:
        duration_s: What was measured; 0 where there was nothing.
        all_stems: Whether the stems are all those of the model.
        values: The track's measures.
        spans: By measure, where it is worst, seconds.
        stems: The stems' measures.
    """

    duration_s: float
    all_stems: bool
    stems: list[StemMeasures]
    values: dict[str, float] = field(default_factory=dict)
    spans: dict[str, Span | None] = field(default_factory=dict)

    def add(self, found: Measured) -> None:
        """Take in what a measure found."""
        self.values |= {name: float(value) for name, value in found.track.items()}
        self.spans |= found.track_spans
        for i, stem in enumerate(self.stems):
            stem.values |= {name: float(values[i]) for name, values in found.stems.items()}
            stem.spans |= {name: spans[i] for name, spans in found.spans.items()}
            others = {name: partners[i] for name, partners in found.partners.items()}
            stem.partners |= {name: self.stems[j].name for name, j in others.items() if j >= 0}


class Measures:
    """Listens to the passages of a separation with every measure that means something for it."""

    def __init__(self, scope: Scope) -> None:
        # Once so much was freed, glibc keeps as much at hand for the next block, instead of giving
        # it back and taking it anew: that is a tenth of the time.
        np.empty(KEPT_BYTES, dtype=np.uint8)
        self._scope = scope
        self._end_s = 0.0
        self._spectrometer = Spectrometer(1 + scope.stems)
        self._measures = Others()
        for kind in registered():
            if (made := kind.of(scope, self._measures)) is not None:
                self._measures.add(made)

    def update(self, passage: Passage) -> None:
        """Take in the next passage."""
        block = self._spectrometer(passage)
        self._end_s = block.end_s
        for measure in self._measures.all():
            measure.update(block)

    def result(self) -> TrackMeasures:
        """Return what all found."""
        stems = [StemMeasures(name, (0.0, self._end_s)) for name in self._scope.names]
        found = TrackMeasures(self._end_s, self._scope.all_stems, stems)
        if self._end_s:
            with np.errstate(invalid="ignore", divide="ignore"):
                for measure in self._measures.all():
                    found.add(measure.result())
        return found
