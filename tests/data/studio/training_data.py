"""Procedural multitracks to train on: styles drawn at random, none shared with the bundled pieces.

Keys, tempi, progressions, patterns, instruments and singers are drawn for each piece from a seed;
a style that comes close to a bundled one (same key at nearly the same tempo) is moved away. Run
`python -m tests.data.studio.training_data OUT --pieces 400`; each piece is one file of 16-bit
samples, shape (4, 2, samples).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.data.studio.compose import (
    DORIAN,
    MAJOR,
    MINOR,
    MIXOLYDIAN,
    Chord,
    Layer,
    Style,
    compose,
)
from tests.data.studio.pieces import PIECES
from tests.data.studio.render import Synthesizer, render_stems
from tests.data.studio.score import Singer

SECONDS = 20.0

KITS = (0, 0, 8, 16, 16, 24, 25, 25, 32, 40, 40)
BASSES = (32, 32, 33, 33, 34, 34, 35, 36, 37, 38, 38, 39)
CHORD_PROGRAMS = (0, 1, 2, 4, 5, 5, 6, 7, 16, 17, 18, 21, 24, 24, 25, 26, 27, 28, 29, 29, 30, 30,
                  61, 62, 63, 80, 81, 90)  # fmt: skip
ARPEGGIO_PROGRAMS = (0, 4, 5, 6, 8, 11, 12, 24, 25, 25, 26, 27, 46, 80, 81, 81, 88, 98, 104)
PAD_PROGRAMS = (16, 48, 48, 49, 50, 51, 88, 89, 89, 90, 92, 94, 95)
LEAD_PROGRAMS = (11, 22, 26, 29, 30, 30, 40, 56, 59, 64, 65, 66, 68, 71, 73, 73, 74, 75, 80, 81)
MINOR_CHORDS: tuple[Chord, ...] = (
    (0, "min"), (3, "maj"), (5, "min"), (7, "min"), (8, "maj"), (10, "maj"), (0, "m7"),
    (5, "m7"), (8, "maj7"), (3, "maj7"), (7, "7"), (10, "7"), (2, "m7b5"), (0, "m9"),
)  # fmt: skip
MAJOR_CHORDS: tuple[Chord, ...] = (
    (0, "maj"), (2, "min"), (4, "min"), (5, "maj"), (7, "maj"), (9, "min"), (0, "maj7"),
    (2, "m7"), (5, "maj7"), (7, "7"), (9, "m7"), (0, "6"), (7, "sus4"), (2, "m9"), (10, "maj"),
)  # fmt: skip
SIDE_PERCUSSION = (54, 56, 60, 62, 63, 64, 69, 70, 75, 76, 77, 80, 82)


def random_style(rng: np.random.Generator) -> Style:
    """A style of no particular genre, drawn wide enough to surround those that are bundled."""
    beats = 3 if rng.random() < 0.1 else 4
    is_minor = rng.random() < 0.5
    chords = MINOR_CHORDS if is_minor else MAJOR_CHORDS
    count = int(rng.choice([2, 3, 4, 4, 6, 8]))
    progression = [chords[0]] + [chords[int(rng.integers(len(chords)))] for _ in range(count - 1)]
    if rng.random() < 0.2:
        progression = [(root, "5") for root, _ in progression]
    style = Style(
        tempo=float(round(rng.uniform(68, 176), 1)),
        key=int(rng.integers(12)),
        scale=(MINOR, DORIAN)[int(rng.integers(2))] if is_minor
        else (MAJOR, MIXOLYDIAN)[int(rng.integers(2))],
        chords=tuple(progression),
        kit=int(rng.choice(KITS)),
        drums=_random_drums(beats * 4, rng),
        bass_program=int(rng.choice(BASSES)),
        bass=tuple(_random_bass(beats * 4, rng) for _ in range(int(rng.integers(1, 4)))),
        layers=_random_layers(beats * 4, rng),
        rhythms=tuple(_random_rhythm(beats * 4, 0.12, rng) for _ in range(4)),
        singer=_random_singer(rng),
        voice_centre=int(rng.integers(52, 75)),
        beats=beats,
        swing=float(rng.choice([0.0, 0.0, 0.05, 0.2, 0.3])),
        fill=tuple(int(d) for d in rng.choice([38, 40, 41, 43, 45, 47, 48, 50, 39], size=3)),
        crash=int(rng.choice([49, 57])) if rng.random() < 0.6 else None,
        levels_db=tuple(rng.uniform((-1, -2, -2, -2), (5, 2, 2, 2)).tolist()),
        room_seconds=float(rng.uniform(0.6, 2.0)),
        silent_bars=tuple(int(b) for b in rng.choice(8, size=int(rng.integers(0, 3)))),
    )  # fmt: skip
    return _away_from_bundled(style)


def _away_from_bundled(style: Style) -> Style:
    for piece in PIECES:
        if piece.style.key == style.key and abs(piece.style.tempo - style.tempo) < 4:
            return replace(style, key=(style.key + 1) % 12, tempo=style.tempo + 8)
    return style


def _random_drums(steps: int, rng: np.random.Generator) -> dict[int, tuple[str, ...]]:
    snare = int(rng.choice([38, 40, 37, 39], p=[0.5, 0.2, 0.15, 0.15]))
    drums = {
        int(rng.choice([35, 36])): _grooves(steps, _kick_chances(steps, rng), rng),
        snare: _grooves(steps, _snare_chances(steps, rng), rng),
        int(rng.choice([42, 42, 51, 44])): _grooves(steps, _hat_chances(steps, rng), rng),
    }
    if rng.random() < 0.5:
        drums[46] = _grooves(steps, np.where(np.arange(steps) % 4 == 2, 0.3, 0.02), rng)
    for _ in range(int(rng.choice([0, 0, 1, 1, 2]))):
        density = np.full(steps, float(rng.uniform(0.1, 0.7)))
        drums[int(rng.choice(SIDE_PERCUSSION))] = _grooves(steps, density, rng)
    return drums


def _kick_chances(steps: int, rng: np.random.Generator) -> np.ndarray:
    chances = np.full(steps, float(rng.uniform(0.02, 0.15)))
    chances[0] = 1.0
    if rng.random() < 0.4:
        chances[::4] = 1.0
    else:
        chances[::2] += 0.25
    return chances


def _snare_chances(steps: int, rng: np.random.Generator) -> np.ndarray:
    chances = np.full(steps, float(rng.uniform(0.0, 0.12)))
    if rng.random() < 0.75:
        chances[4::8] = 1.0
    else:
        chances[3::3] = 0.6
    return chances


def _hat_chances(steps: int, rng: np.random.Generator) -> np.ndarray:
    every = int(rng.choice([1, 2, 2, 4]))
    chances = np.full(steps, float(rng.uniform(0.0, 0.15)))
    chances[::every] = float(rng.uniform(0.75, 1.0))
    return chances


def _grooves(steps: int, chances: np.ndarray, rng: np.random.Generator) -> tuple[str, ...]:
    """One or two bars; each step sounds with its chance, loudest where it is most likely."""
    bars = []
    for _ in range(int(rng.integers(1, 3))):
        sounds = rng.random(steps) < chances
        letters = np.where(chances > 0.7, "x", rng.choice(["x", "o", "."], size=steps))
        bars.append("".join(np.where(sounds, letters, "-").tolist()))
    return tuple(bars)


def _random_bass(steps: int, rng: np.random.Generator) -> str:
    grain = int(rng.choice([1, 2, 2, 4]))
    tones = rng.choice(["R", "R", "R", "5", "8", "3", "7"], size=steps)
    letters = ["~" if rng.random() < 0.75 else "-" for _ in range(steps)]
    density = float(rng.uniform(0.35, 0.9))
    for step in range(0, steps, grain):
        if rng.random() < density:
            letters[step] = str(tones[step])
    letters[0] = "R" if rng.random() < 0.85 else "-"
    if rng.random() < 0.4:
        letters[-2] = "a"
    return "".join(letters)


def _random_layers(steps: int, rng: np.random.Generator) -> tuple[Layer, ...]:
    manners = [("chord", CHORD_PROGRAMS), ("arpeggio", ARPEGGIO_PROGRAMS), ("pad", PAD_PROGRAMS),
               ("lead", LEAD_PROGRAMS)]  # fmt: skip
    layers = []
    for _ in range(int(rng.integers(2, 5))):
        manner, programs = manners[int(rng.choice(4, p=[0.42, 0.24, 0.17, 0.17]))]
        patterns = tuple(_layer_pattern(manner, steps, rng) for _ in range(int(rng.integers(1, 4))))
        centre = int(rng.integers(66, 79)) if manner == "lead" else int(rng.integers(54, 73))
        layers.append(
            Layer(
                manner,
                int(rng.choice(programs)),
                patterns,
                centre,
                pan=float(rng.uniform(-0.8, 0.8)),
                level=float(rng.uniform(0.5, 1.0)),
                reverb=float(rng.uniform(0.1, 0.6)),
                tones=int(rng.integers(3, 5)),
            )
        )
    if all(layer.manner == "lead" for layer in layers):
        layers[0] = replace(layers[0], manner="chord")
    return tuple(layers)


def _layer_pattern(manner: str, steps: int, rng: np.random.Generator) -> str:
    if manner == "pad":
        return "x" + "~" * (steps - 1)
    if manner == "arpeggio":
        grain = int(rng.choice([1, 2, 2]))
        rest = "~" if rng.random() < 0.6 else "-"
        return "".join(
            str(rng.integers(4)) if step % grain == 0 and rng.random() < 0.9 else rest
            for step in range(steps)
        )
    return _random_rhythm(steps, 0.2 if manner == "chord" else 0.4, rng)


def _random_rhythm(steps: int, rest_chance: float, rng: np.random.Generator) -> str:
    """Notes of one to six steps, some of them replaced by rests."""
    lengths = np.array([1, 2, 2, 2, 3, 4, 4, 6])
    pattern = ""
    while len(pattern) < steps:
        length = int(rng.choice(lengths))
        pattern += "-" * length if rng.random() < rest_chance else "x" + "~" * (length - 1)
    return pattern[:steps]


def _random_singer(rng: np.random.Generator) -> Singer:
    return Singer(
        formant_scale=float(rng.uniform(0.92, 1.25)),
        tilt=float(rng.uniform(0.95, 1.35)),
        breath=float(rng.uniform(0.02, 0.09)),
        vibrato_hz=float(rng.uniform(4.6, 6.4)),
        vibrato_cents=float(rng.uniform(10, 50)),
        singers_formant=float(rng.uniform(0.0, 0.6)),
        doubled=bool(rng.random() < 0.25),
    )


def main() -> None:
    """Renders pieces first .. first + pieces - 1; files that exist are left as they are."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pieces", type=int, default=400)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    synthesizer = Synthesizer()
    for index in range(options.first, options.first + options.pieces):
        path = options.out / f"{index:05d}.npy"
        if path.exists():
            continue
        rng = np.random.default_rng((2026, index))
        score = compose(random_style(rng), int(rng.integers(2**31)), SECONDS)
        stems = render_stems(score, synthesizer, rng)
        scratch = path.with_suffix(".part")
        with scratch.open("wb") as file:
            np.save(file, stems)
        scratch.rename(path)


if __name__ == "__main__":
    main()
