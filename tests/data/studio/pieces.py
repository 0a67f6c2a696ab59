"""Makes the four bundled pieces: four genres, four stems each, the same samples every time.

Run `python -m tests.data.studio.pieces` from the repository's root.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from mutagen.flac import FLAC
from numpy.typing import NDArray

from tests.data.studio.compose import DORIAN, MAJOR, MINOR, Layer, Style, compose
from tests.data.studio.render import Synthesizer, render_stems
from tests.data.studio.score import SAMPLE_RATE, STEMS, Singer

BUNDLED = Path(__file__).parents[3] / "tasks" / "sources" / "bundled"
ARTIST = "Stemwright Studio"
LICENCE = "CC0-1.0"


@dataclass(frozen=True)
class Piece:
    """A bundled piece: what it is called, how it is written, and how long it lasts."""

    slug: str
    title: str
    genre: str
    seed: int
    seconds: float
    style: Style


ROCK = Style(
    tempo=134, key=4, scale=MINOR, kit=16, crash=49, fill=(38, 48, 45, 43),
    chords=((0, "5"), (0, "5"), (8, "5"), (10, "5"), (0, "5"), (3, "5"), (8, "5"), (10, "5")),
    drums={
        36: ("x-----x-x-------", "x-x---x-x---x---"),
        38: ("----x-------x--.",),
        42: ("x-o-x-o-x-o-x-o-",),
        46: ("--------------x-", "----------------"),
    },
    bass_program=34, bass=("R~R~R~R~R~R~R~5~", "R~R~R~R~R~8~5~a~"),
    layers=(
        Layer("chord", 30, ("x~o~--o~x~o~--o~", "x~o~--o~x~~~o~o~"), 56, -0.75, 0.85, 0.2, 3),
        Layer("chord", 29, ("x~~~~~~~x~~~x~~~",), 56, 0.75, 0.8, 0.2, 3),
        Layer("lead", 30, ("----------------", "--------x~x~x~~~"), 71, 0.25, 0.7, 0.5),
    ),
    rhythms=("x~x~x~~~x~x~x~~~", "x~~~x~x~x~~~----", "--x~x~x~x~~~x~~~", "x~~~~~x~x~~~~~--"),
    singer=Singer(1.0, 1.0, 0.04, 5.4, 35, 0.5), voice_centre=59,
    levels_db=(1.5, 0.0, 0.0, 1.0), room_seconds=0.9,
)  # fmt: skip

HOUSE = Style(
    tempo=124, key=9, scale=DORIAN, kit=25, crash=None, fill=(39, 38, 39, 38),
    chords=((0, "m9"), (5, "m7"), (10, "maj7"), (3, "maj7")),
    drums={
        36: ("x---x---x---x---",),
        39: ("----x-------x---",),
        42: (".-o-.-o..-o-.-oo",),
        46: ("--x---x---x---x-",),
        70: ("o.oo.oo.o.oo.oo.",),
        75: ("---x--x-----x---",),
    },
    bass_program=38, bass=("--R~-R--R~8~-R7~", "--R~-R8~--R~5~a~"),
    layers=(
        Layer("chord", 5, ("x~-x~-x~---x~-x~", "x~-x~-x~-x~-x~--"), 64, -0.3, 0.85, 0.4),
        Layer("pad", 89, ("x~~~~~~~~~~~~~~~",), 67, 0.35, 0.7, 0.6),
        Layer("arpeggio", 81, ("0-2-1-3-0-2-3-1-", "0-1-2-3-2-1-3-2-"), 76, 0.6, 0.45, 0.5),
    ),
    rhythms=("x~~~x~~~--x~x~~~", "----x~x~x~~~~~~~", "x~x~--x~x~~~----", "x~~~~~~~x~~~~~~~"),
    singer=Singer(1.17, 1.15, 0.06, 5.9, 28, 0.2, doubled=True), voice_centre=69,
    levels_db=(2.0, 0.0, 0.5, 0.5), room_seconds=1.6,
)  # fmt: skip

BOSSA = Style(
    tempo=138, key=2, scale=MAJOR, kit=32, crash=None, fill=(), swing=0.04,
    chords=((0, "maj9"), (0, "6"), (9, "m7"), (2, "7"), (4, "m7"), (9, "7"), (2, "m9"), (7, "7")),
    drums={
        36: ("x-----x-x-----x-",),
        37: ("x-----x-----x---", "----x-----x-----"),
        42: ("x.o.x.o.x.o.x.o.",),
        70: (".o.o.o.o.o.o.o.o",),
        76: ("--------x---x---", "x-----x-----x---"),
    },
    bass_program=32, bass=("R~~~~~5~5~~~~~R~", "R~~~~~5~8~~~~~a~"),
    layers=(
        Layer("chord", 24, ("x~--o~-o~--x~-o~", "--x~-o~-x~--o~--"), 60, -0.35, 0.95, 0.3),
        Layer("chord", 4, ("x~~~~~~~--------", "------x~~~~~~~~~"), 66, 0.45, 0.6, 0.4),
        Layer("lead", 73, ("----------------", "----------------", "----x~x~x~~~x~~~",
                           "x~~~~~x~x~~~~~~~"), 76, 0.2, 0.6, 0.6),
    ),
    rhythms=("x~~~~~x~~~x~~~~~", "--x~~~x~x~~~x~~~", "x~~~x~~~~~x~~~--", "x~~~~~~~~~~~----"),
    singer=Singer(1.14, 1.25, 0.07, 5.2, 22, 0.15), voice_centre=66,
    levels_db=(3.5, 0.0, 0.0, 0.5), room_seconds=1.2,
)  # fmt: skip

BALLAD = Style(
    tempo=87, key=7, scale=MAJOR, kit=40, crash=None, fill=(38, 45, 45), beats=4,
    chords=((0, "maj"), (7, "sus4"), (9, "m7"), (5, "maj7"), (0, "maj"), (4, "m7"), (5, "maj"),
            (7, "maj")),
    drums={
        36: ("x---------o-----", "x-------x-o-----"),
        38: ("----x--.----x---",),
        42: ("o-.-o-.-o-.-o-.-",),
        54: ("----o-------o-o-",),
    },
    bass_program=33, bass=("R~~~~~~~R~~~5~~~", "R~~~~~~~8~~~5~a~"),
    layers=(
        Layer("arpeggio", 25, ("0~2~1~3~0~3~2~1~", "0~1~2~3~2~1~3~1~"), 60, -0.4, 1.0, 0.35),
        Layer("chord", 0, ("x~~~~~~~o~~~~~~~", "x~~~~~~~o~~~o~~~"), 62, 0.35, 0.75, 0.4),
        Layer("pad", 48, ("x~~~~~~~~~~~~~~~",), 66, 0.1, 0.5, 0.6),
    ),
    rhythms=("x~x~x~~~--x~x~~~", "x~~~x~x~x~~~~~--", "--x~x~x~x~~~x~x~", "x~~~~~x~x~~~~~~~"),
    singer=Singer(1.05, 1.1, 0.05, 5.6, 38, 0.3), voice_centre=63,
    levels_db=(5.5, -0.5, 0.0, 1.0), room_seconds=1.4,
)  # fmt: skip

PIECES: tuple[Piece, ...] = (
    Piece("iron_harbour", "Iron Harbour", "Rock", 7001, 20.0, ROCK),
    Piece("glass_terminal", "Glass Terminal", "House", 7002, 20.0, HOUSE),
    Piece("costa_lenta", "Costa Lenta", "Bossa Nova", 7003, 20.0, BOSSA),
    Piece("paper_lanterns", "Paper Lanterns", "Pop Ballad", 7004, 20.0, BALLAD),
)


def render_piece(piece: Piece, synthesizer: Synthesizer) -> NDArray[np.int16]:
    """The four stems of a bundled piece, 16-bit, shape (4, 2, samples)."""
    score = compose(piece.style, piece.seed, piece.seconds)
    return render_stems(score, synthesizer, np.random.default_rng(piece.seed))


def write_piece(piece: Piece, stems: NDArray[np.int16], folder: Path) -> None:
    """Writes the stems and their exact sum as FLAC, and tags the sum."""
    folder.mkdir(parents=True, exist_ok=True)
    mixture = stems.astype(np.int32).sum(axis=0)
    if np.abs(mixture).max() > 32767:
        raise ValueError(f"{piece.slug}: the mixture clips")
    named = dict(zip(STEMS, stems, strict=True)) | {"mixture": mixture.astype(np.int16)}
    for name, audio in named.items():
        soundfile.write(folder / f"{name}.flac", audio.T, SAMPLE_RATE, subtype="PCM_16",
                        compression_level=1.0)  # fmt: skip
    tags = FLAC(folder / "mixture.flac")  # type: ignore[no-untyped-call]
    named_tags = {"title": piece.title, "artist": ARTIST, "genre": piece.genre, "license": LICENCE}
    tags.update(named_tags)  # type: ignore[no-untyped-call]
    tags.save()


def main() -> None:
    """Makes every bundled piece and the catalog that lists them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=BUNDLED)
    out: Path = parser.parse_args().out
    synthesizer = Synthesizer()
    for piece in PIECES:
        write_piece(piece, render_piece(piece, synthesizer), out / piece.slug)
    with (out / "catalog.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["source", "title", "artist", "genre"])
        for piece in PIECES:
            rows.writerow([f"{piece.slug}/mixture.flac", piece.title, ARTIST, piece.genre])


if __name__ == "__main__":
    main()
