"""The benchmark's multitrack pieces: two of each genre, with their reference stems."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.quality.audio import from_int16, write_stems
from tests.data.studio.compose import compose
from tests.data.studio.genres import GENRES, variant
from tests.data.studio.render import Synthesizer, render_stems
from tests.data.studio.score import STEMS

SECONDS = 16.0
PER_GENRE = 2


@dataclass(frozen=True)
class Piece:
    """Which piece: the seed settles everything about it."""

    genre: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.genre}_{self.number}"

    @property
    def seed(self) -> tuple[int, int, int]:
        return (20261124, list(GENRES).index(self.genre), self.number)


def all_pieces(per_genre: int = PER_GENRE) -> list[Piece]:
    """Every piece: the first of each genre, then the second, so that half the work has them all."""
    return [Piece(genre, number) for number in range(per_genre) for genre in GENRES]


def render(piece: Piece, synthesizer: Synthesizer, seconds: float = SECONDS) -> NDArray[np.int16]:
    """The four reference stems, 16-bit, shape (4, 2, samples); one that has no part is zeros."""
    rng = np.random.default_rng(piece.seed)
    style = variant(GENRES[piece.genre], rng)
    score = compose(style, int(rng.integers(2**31)), seconds)
    return render_stems(score, synthesizer, rng)


def write_piece(folder: Path, stems: NDArray[np.int16]) -> None:
    """Keeps the stems and their sum, exact to the bit."""
    named = dict(zip(STEMS, from_int16(stems), strict=True))
    write_stems(folder, named | {"mixture": np.sum(list(named.values()), axis=0)})
