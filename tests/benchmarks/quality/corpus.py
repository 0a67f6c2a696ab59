"""The data that the blind score is fitted on and judged by.

    python -m tests.benchmarks.quality.corpus build/quality

makes the pieces, their degradations and their real separations under DIR, and DIR/stems.parquet
and DIR/tracks.parquet from them (`table.py` says what is in these). What exists is kept, so an
interrupted run goes on; `--measure-only` measures all of the kept audio anew, for when measures
changed. The same command always makes the same audio, but for the trained networks: those found
in DIR/training (`stages.py`, `recurrent.py`) are used as they are, and left out where there are
none. It needs FluidSynth and its sound font (apt: fluidsynth, fluid-soundfont-gm).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from tests.benchmarks.quality import table
from tests.benchmarks.quality.audio import Audio, read, write_stems
from tests.benchmarks.quality.degradations import KINDS, Kind, Scene
from tests.benchmarks.quality.pieces import (
    PER_GENRE,
    SECONDS,
    Piece,
    all_pieces,
    render,
    write_piece,
)
from tests.benchmarks.quality.separators import Separator, separators
from tests.benchmarks.quality.truth import is_absent, sdr, si_sdr
from tests.data.studio.render import Synthesizer
from tests.data.studio.score import STEMS

STRENGTHS_A_PIECE = (2, 1)
"""Of each kind, for a genre's first piece and for further ones: they are there to be others."""
BOTH_CHANCE = 0.3


def generator(*words: str) -> np.random.Generator:
    """Random draws that depend on the words alone, not on the order of the work."""
    return np.random.default_rng([20261124, *(crc32(word.encode()) for word in words)])


def make_piece(folder: Path, piece: Piece, seconds: float = SECONDS) -> None:
    """Renders a piece into FOLDER/pieces, and its reference stems' case."""
    home = folder / "pieces" / piece.name
    if not (home / "mixture.flac").exists():
        # A synthesizer of its own: nothing of the piece before lives on in it.
        write_piece(home, render(piece, Synthesizer(), seconds))
    if not _case_file(folder, piece, "true").exists():
        true, mixture = load_piece(folder, piece)
        _keep(folder, piece, "true", {"kind": "true", "touched": []}, {}, true, mixture)


def load_piece(folder: Path, piece: Piece) -> tuple[dict[str, Audio], Audio]:
    """The reference stems and the mixture."""
    home = folder / "pieces" / piece.name
    return {name: read(home / f"{name}.flac") for name in STEMS}, read(home / "mixture.flac")


def degrade_piece(folder: Path, piece: Piece) -> None:
    """Every kind at one or two of its strengths, stems and strengths chosen by seed."""
    true, mixture = load_piece(folder, piece)
    present = [name for name in STEMS if not is_absent(true[name], mixture)]
    for kind in KINDS:
        if kind.pair and len(present) < 2:
            continue
        rng = generator(piece.name, kind.name)
        count = STRENGTHS_A_PIECE[min(piece.number, 1)]
        picked = rng.choice(len(kind.strengths), STRENGTHS_A_PIECE[0], replace=False)[:count]
        for index in sorted(int(i) for i in picked):
            _degrade(folder, piece, kind, kind.strengths[index], present, true, mixture)


def _degrade(
    folder: Path, piece: Piece, kind: Kind, strength: float, present: list[str],
    true: Mapping[str, Audio], mixture: Audio,
) -> None:  # fmt: skip
    case = f"{kind.name}_{strength:g}"
    if _case_file(folder, piece, case).exists():
        return
    rng = generator(piece.name, kind.name, f"{strength:g}")
    scenes = _scenes(kind, present, true, rng)
    changed: dict[str, Audio] = {}
    for scene in scenes:
        changed |= kind.apply(scene, strength, rng)
    facts: dict[str, Any] = {
        "kind": kind.name,
        "strength": strength,
        "touched": sorted(set(changed) - {"mixture"}),
        "zero_sum": kind.zero_sum,
    }
    _keep(folder, piece, case, facts, changed, true, mixture)


def _scenes(
    kind: Kind, present: list[str], true: Mapping[str, Audio], rng: np.random.Generator
) -> list[Scene]:
    """One stem with a partner (one that sounds, if there is); for some kinds, at times a second."""
    order = [str(name) for name in rng.permutation(present)]
    silent = [str(name) for name in rng.permutation([n for n in STEMS if n not in present])]
    partner = order[1] if len(order) > 1 else silent[0]
    scenes = [Scene(true, order[0], partner)]
    if kind.alone and len(order) > 1 and rng.random() < BOTH_CHANCE:
        scenes.append(Scene(true, order[1], order[0]))
    return scenes


def separate_piece(folder: Path, piece: Piece, ways: list[Separator]) -> None:
    """Every real separator on one piece; outputs raw, as the separator gives them."""
    waiting = [way for way in ways if not _case_file(folder, piece, way.case).exists()]
    if not waiting:
        return
    true, mixture = load_piece(folder, piece)
    for way in waiting:
        found = way.run(mixture, true, generator(piece.name, way.case))
        facts = {"kind": "separator", "separator": way.name, "stage": way.stage,
                 "touched": list(STEMS)}  # fmt: skip
        _keep(folder, piece, way.case, facts, found, true, mixture)


def _keep(
    folder: Path, piece: Piece, case: str, facts: Mapping[str, Any],
    changed: Mapping[str, Audio], true: Mapping[str, Audio], mixture: Audio,
) -> None:  # fmt: skip
    """Writes what changed and, last, the case's facts with the truth about every stem."""
    home = _case_file(folder, piece, case).parent
    write_stems(home, changed)
    files = {
        name: str(((home if name in changed else folder / "pieces" / piece.name) / f"{name}.flac")
                  .relative_to(folder))
        for name in ("mixture", *STEMS)
    }  # fmt: skip
    truth = {}
    for name in STEMS:
        estimate = changed.get(name, true[name])
        absent = is_absent(true[name], mixture)
        truth[name] = {
            "absent": absent,
            "si_sdr": None if absent else si_sdr(estimate, true[name]),
            "sdr": None if absent else sdr(estimate, true[name]),
        }
    record = {"piece": piece.name, "genre": piece.genre, "case": case, **facts,
              "files": files, "truth": truth}  # fmt: skip
    scratch = home / "case.part"
    scratch.write_text(json.dumps(record, indent=1))
    scratch.replace(home / "case.json")


def _case_file(folder: Path, piece: Piece, case: str) -> Path:
    return folder / "cases" / piece.name / case / "case.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/quality"))
    parser.add_argument("--measure-only", action="store_true", help="measure all kept audio anew")
    parser.add_argument("--per-genre", type=int, default=PER_GENRE)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    folder: Path = options.folder
    if options.measure_only:
        table.forget(folder)
    else:
        _make(folder, all_pieces(options.per_genre))
    table.build(folder)


def _make(folder: Path, pieces: list[Piece]) -> None:
    """The table is written after every piece: it can be used while it grows."""
    ways = separators(folder / "training")
    for number in sorted({piece.number for piece in pieces}):
        one_of_each = [piece for piece in pieces if piece.number == number]
        for piece in one_of_each:
            make_piece(folder, piece)
            separate_piece(folder, piece, ways)
            table.build(folder)
        for piece in one_of_each:
            degrade_piece(folder, piece)
            table.build(folder)


if __name__ == "__main__":
    main()
