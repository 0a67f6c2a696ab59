"""Styles of seventeen genres to judge the quality score on, none of them a bundled piece's.

`variant` draws one piece of a genre from a seed: another key, tempo, balance and singer, and the
patterns shifted against each other. Some genres lack drums, bass or vocals, as music does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from tests.data.studio.compose import DORIAN, MAJOR, MINOR, MIXOLYDIAN, Layer, Style
from tests.data.studio.score import Singer, Texture

T = TypeVar("T")

PELOG = (0, 1, 3, 7, 8)
BHAIRAV = (0, 1, 4, 5, 7, 8, 11)

REST = "----------------"
WHOLE = "x~~~~~~~~~~~~~~~"
NO_SONG = (REST,)
NO_BASS = (REST,)
NOBODY = Singer()

ROCK = Style(
    tempo=118, key=9, scale=MIXOLYDIAN, kit=0, crash=57, fill=(38, 45, 43, 41),
    chords=((0, "5"), (10, "5"), (5, "5"), (0, "5")),
    drums={36: ("x-x-----x-x---x-", "x-----x-x-x-----"), 38: ("----x-------x---",),
           51: ("x-o-x-o-x-o-x-o-",)},
    bass_program=33, bass=("R~R~--R~R~R~--5~", "R~--R~R~7~R~R~a~"),
    layers=(
        Layer("chord", 29, ("x~~~--x~x~~~x~--", "x~--x~x~--x~~~~~"), 57, -0.6, 0.9, 0.2, 3),
        Layer("chord", 16, (WHOLE, "x~~~~~~~o~~~~~~~"), 64, 0.5, 0.55, 0.4),
    ),
    rhythms=("x~x~--x~x~~~----", "--x~x~x~x~x~~~--", "x~~~x~x~--x~~~~~", "x~x~x~~~~~~~----"),
    singer=Singer(0.97, 1.0, 0.05, 5.2, 30, 0.4), voice_centre=62, levels_db=(1.0, 0.0, 1.0, 1.0),
)  # fmt: skip

METAL = Style(
    tempo=168, key=2, scale=MINOR, kit=16, crash=49, fill=(38, 48, 45, 41),
    chords=((0, "5"), (1, "5"), (0, "5"), (8, "5"), (0, "5"), (6, "5")),
    drums={36: ("xxxxxxxxxxxxxxxx", "x-xxx-xxx-xxx-xx"), 38: ("----x-------x---",),
           46: ("x---x---x---x---",)},
    bass_program=34, bass=("R~RRR~RRR~RRR~RR", "R~RRR~RRR~R~5~a~"),
    layers=(
        Layer("chord", 30, ("x-xxx-xxx-xxx-xx", "x~xxx-xxx~~~x~~~"), 52, -0.8, 0.9, 0.1, 3),
        Layer("chord", 30, ("x-xxx-xxx-xxx-xx", "x~xxx-xxx~~~x~~~"), 52, 0.8, 0.9, 0.1, 3),
        Layer("lead", 30, (REST, "x~x~x~x~x~x~xxxx"), 76, 0.1, 0.6, 0.5),
    ),
    rhythms=("x~x~--x~x~x~----", "x~~~~~~~x~x~----", "--x~x~x~x~~~----", REST),
    singer=Singer(0.94, 0.95, 0.35, 4.8, 12, 0.2, doubled=True), voice_centre=52,
    levels_db=(2.0, -1.0, 1.5, 0.0),
)  # fmt: skip

POP_BALLAD = Style(
    tempo=72, key=5, scale=MAJOR, kit=8, crash=49, fill=(41, 43, 45, 38),
    chords=((0, "maj9"), (9, "min"), (5, "maj"), (7, "sus4")),
    drums={36: ("x-----o-x-------",), 37: ("----x-------x---",), 42: ("o.o.o.o.o.o.o.o.",)},
    bass_program=35, bass=("R~~~~~R~R~~~~~5~", "R~~~~~~~R~~~3~a~"),
    layers=(
        Layer("arpeggio", 0, ("0~1~2~3~2~1~2~1~", "0~2~1~2~3~2~1~2~"), 62, -0.2, 1.0, 0.4),
        Layer("pad", 50, (WHOLE,), 67, 0.3, 0.55, 0.6),
    ),
    rhythms=("x~x~x~~~--x~x~~~", "x~~~--x~x~x~~~~~", "--x~x~x~x~~~----", "x~~~~~x~x~~~~~~~"),
    singer=Singer(1.16, 1.15, 0.06, 5.8, 42, 0.2), voice_centre=68, levels_db=(1.0, 0.0, 0.0, 3.0),
    room_seconds=1.8,
)  # fmt: skip

HIP_HOP = Style(
    tempo=88, key=1, scale=MINOR, kit=25, crash=None, fill=(), swing=0.15,
    chords=((0, "m9"), (8, "maj7"), (5, "m7"), (7, "7")),
    drums={36: ("x-----x--x------", "x--x------x---x-"), 39: ("----x-------x---",),
           42: ("x-x-x-xxx-x-x-xx", "x-xxx-x-x-x-xxxx"), 46: (REST, "--------------x-")},
    bass_program=39, bass=("R~~~~~~~~~R~----", "R~~~--R~~~~~8~~~"),
    layers=(
        Layer("arpeggio", 4, ("0-2---1---3-2---", "0---3-2-1---2-1-"), 64, 0.4, 0.7, 0.3),
        Layer("chord", 11, ("x~~~----o~~~----",), 72, -0.5, 0.45, 0.5),
    ),
    rhythms=("x-xxx-x-xxx-x-xx", "xxx-x-xxx-xxx---", "--xxx-xxx-x-xxx-", "x-x-xxxxx-x-x---"),
    singer=Singer(0.95, 1.05, 0.05, 4.5, 5, 0.1), voice_centre=50, levels_db=(3.0, 2.0, -3.0, 2.0),
    room_seconds=0.3,
)  # fmt: skip

HOUSE = Style(
    tempo=126, key=6, scale=MINOR, kit=24, crash=None, fill=(),
    chords=((0, "min"), (8, "maj"), (3, "maj"), (10, "maj")),
    drums={36: ("x---x---x---x---",), 40: ("----x-------x---",), 46: ("--x---x---x---x-",),
           82: ("o-oo.-oo.-oo.-oo",)},
    bass_program=38, bass=("R-RR-RR-R-RR-R8-",),
    layers=(
        Layer("chord", 90, ("--x~--x~--x~--x~", "--x~-x~---x~-x~-"), 66, 0.0, 0.8, 0.3),
        Layer("arpeggio", 80, ("0123012301230123", "3210321032103210"), 72, -0.4, 0.4, 0.4),
        Layer("pad", 95, (WHOLE,), 60, 0.4, 0.6, 0.5),
    ),
    rhythms=(REST, "x~~~x~x~~~------", "----------x~x~~~", "x~x~~~~~~~------"),
    singer=Singer(1.2, 1.2, 0.08, 5.9, 25, 0.1, doubled=True), voice_centre=70,
    levels_db=(3.0, 1.0, -1.0, -1.0), room_seconds=1.8,
)  # fmt: skip

DRUM_AND_BASS = Style(
    tempo=174, key=7, scale=DORIAN, kit=24, crash=49, fill=(38, 40, 38, 40),
    chords=((0, "m9"), (0, "m9"), (10, "maj7"), (5, "m7")),
    drums={36: ("x---------x-----", "x-x-------x-----"), 40: ("----x--.-.--x-.-",),
           42: ("x-x-x-x-x-x-x-x-",), 51: ("x-------x-------",)},
    bass_program=39, bass=("R~~~~~~~R~~~~~8~", "R~~~--R~~~~~5~~~"),
    layers=(
        Layer("pad", 89, (WHOLE,), 64, 0.0, 0.7, 0.7),
        Layer("arpeggio", 98, ("0---2---1---3---", "--0---3---1---2-"), 74, 0.5, 0.5, 0.6),
    ),
    rhythms=(REST, "x~~~~~~~x~~~~~~~", REST, "--x~~~x~~~~~~~~~"),
    singer=Singer(1.2, 1.25, 0.09, 5.5, 30, 0.1), voice_centre=71, levels_db=(4.0, 2.0, -2.0, 0.0),
    room_seconds=2.0,
)  # fmt: skip

FOLK = Style(
    tempo=96, key=4, scale=MAJOR, kit=0, crash=None, fill=(), drums={},
    chords=((0, "maj"), (5, "maj"), (0, "maj"), (7, "7"), (9, "min"), (5, "maj"), (7, "maj"),
            (0, "maj")),
    bass_program=32, bass=NO_BASS,
    layers=(Layer("arpeggio", 25, ("0~2~1~3~0~3~1~2~", "0~1~3~2~0~2~3~1~"), 57, -0.15, 1.0, 0.25),
            Layer("chord", 24, ("x~~~----o~~~o~--",), 62, 0.2, 0.6, 0.25)),
    rhythms=("x~x~x~~~x~x~~~--", "--x~x~x~x~~~x~~~", "x~~~x~x~x~~~----", "x~x~~~x~~~~~----"),
    singer=Singer(1.08, 1.2, 0.08, 5.0, 18, 0.1), voice_centre=62, levels_db=(0.0, 0.0, 0.0, 1.5),
    room_seconds=0.7,
)  # fmt: skip

LATIN = Style(
    tempo=104, key=0, scale=MINOR, kit=0, crash=None, fill=(),
    chords=((0, "min"), (5, "m7"), (7, "7"), (0, "min")),
    drums={63: ("--x---xx--x---xx",), 62: ("x---x---x---x---",), 75: ("x--x---x--x-x---",),
           70: ("xoxoxoxoxoxoxoxo",), 65: ("x-------x-x-----",)},
    bass_program=32, bass=("---R~~~~---5~~~~", "---R~~~5~~~8~~a~"),
    layers=(
        Layer("arpeggio", 0, ("0-21-3-20-21-3-1", "02-13-2-02-13-21"), 67, -0.3, 0.9, 0.25),
        Layer("chord", 61, (REST, "--------x-xx--x~"), 70, 0.4, 0.6, 0.35),
    ),
    rhythms=("x~x~~~x~x~~~x~--", "--x~x~~~x~x~~~--", "x~~~x~x~~~x~----", "x~x~x~x~~~~~----"),
    singer=Singer(1.0, 1.05, 0.04, 5.6, 32, 0.5), voice_centre=64, levels_db=(2.5, 0.0, 0.0, 0.5),
)  # fmt: skip

JAZZ_TRIO = Style(
    tempo=152, key=10, scale=DORIAN, kit=32, crash=None, fill=(), swing=0.3,
    chords=((2, "m7"), (7, "7"), (0, "maj7"), (9, "7")),
    drums={51: ("x---x--ox---x--o",), 44: ("----x-------x---",),
           38: ("-------.------.-", "---.---------.--"), 36: ("o-------.-------",)},
    bass_program=32, bass=("R~~~3~~~5~~~a~~~", "R~~~5~~~8~~~a~~~", "R~~~7~~~5~~~a~~~"),
    layers=(
        Layer("chord", 0, ("--x~------x~----", "x~----x~--------", REST), 60, 0.1, 0.8, 0.3),
        Layer("lead", 0, ("x~x~x~~~--x~x~x~", "--x~x~x~x~x~~~--", "x~~~----x~x~x~x~"), 76, 0.1, 0.9,
              0.3),
    ),
    rhythms=NO_SONG, singer=NOBODY, voice_centre=60, levels_db=(0.0, 0.0, 1.0, 0.0),
)  # fmt: skip

JAZZ_VOCAL = Style(
    tempo=84, key=3, scale=MAJOR, kit=40, crash=None, fill=(), swing=0.25,
    chords=((0, "maj7"), (9, "m7"), (2, "m9"), (7, "7")),
    drums={38: ("x-o-x-o-x-o-x-o-",), 51: ("x---x--ox---x--o",), 36: ("o---------------",)},
    bass_program=32, bass=("R~~~~~~~5~~~~~~~", "R~~~~~~~5~~~a~~~"),
    layers=(
        Layer("chord", 0, ("x~~~----o~~~~~--", "--x~~~~~----x~~~"), 62, -0.2, 0.8, 0.4),
        Layer("lead", 65, (REST, "--------x~x~x~~~", REST, "----x~x~x~~~~~~~"), 68, 0.35, 0.7, 0.5),
    ),
    rhythms=("x~~~x~x~~~~~x~--", "--x~x~~~x~~~----", "x~~~~~x~x~~~~~~~", "x~x~~~~~~~~~----"),
    singer=Singer(1.12, 1.2, 0.07, 5.3, 45, 0.2), voice_centre=65, levels_db=(-3.0, 0.0, 0.0, 2.5),
    room_seconds=1.4,
)  # fmt: skip

STRING_QUARTET = Style(
    tempo=92, key=2, scale=MINOR, kit=48, crash=None, fill=(), drums={},
    chords=((0, "min"), (5, "min"), (7, "maj"), (0, "min"), (8, "maj"), (3, "maj"), (7, "7"),
            (0, "min")),
    bass_program=43, bass=NO_BASS,
    layers=(
        Layer("lead", 40, ("x~~~x~x~x~~~~~--", "x~x~x~x~x~~~x~~~"), 79, -0.5, 0.9, 0.45),
        Layer("arpeggio", 40, ("0~1~2~1~0~1~2~1~", "0~~~2~~~1~~~2~~~"), 68, -0.2, 0.7, 0.45, 3),
        Layer("pad", 41, ("x~~~~~~~x~~~~~~~",), 60, 0.25, 0.7, 0.45, 1),
        Layer("lead", 42, ("x~~~~~~~x~~~~~~~", "x~~~x~~~x~~~~~~~"), 48, 0.5, 0.9, 0.45),
    ),
    rhythms=NO_SONG, singer=NOBODY, voice_centre=60,
)  # fmt: skip

ORCHESTRAL = Style(
    tempo=80, key=8, scale=MAJOR, kit=48, crash=None, fill=(), drums={},
    chords=((0, "maj"), (9, "min"), (5, "maj"), (7, "maj"), (3, "maj"), (10, "maj"), (0, "sus4"),
            (0, "maj")),
    bass_program=43, bass=("R~~~~~~~5~~~~~~~", "R~~~~~~~R~~~8~~~"),
    layers=(
        Layer("pad", 48, (WHOLE,), 62, -0.3, 0.9, 0.6),
        Layer("lead", 73, ("x~x~x~~~x~~~----", "--x~x~x~x~~~~~~~"), 79, 0.1, 0.7, 0.6),
        Layer("chord", 60, ("x~~~~~~~--------", "--------x~~~~~~~"), 58, 0.35, 0.8, 0.6, 3),
        Layer("arpeggio", 46, ("0123210301232103", REST), 70, 0.6, 0.5, 0.6),
    ),
    rhythms=("x~~~~~~~x~~~~~~~", "--------x~~~x~~~", "x~~~~~~~~~~~----", REST),
    singer=Singer(1.1, 1.1, 0.05, 5.6, 40, 0.6), voice_centre=69, levels_db=(0.0, -3.0, 2.0, -1.0),
    room_seconds=2.4, choir=(64, 57, 50),
)  # fmt: skip

A_CAPPELLA = Style(
    tempo=76, key=7, scale=MAJOR, kit=0, crash=None, fill=(), drums={},
    chords=((0, "maj"), (5, "maj"), (2, "min"), (7, "maj"), (9, "min"), (5, "maj"), (7, "7"),
            (0, "maj")),
    bass_program=32, bass=NO_BASS, layers=(),
    rhythms=("x~~~x~~~x~~~~~~~", "x~~~x~x~x~~~~~--", "x~~~~~~~x~~~x~~~", "x~~~x~~~x~~~~~~~"),
    singer=Singer(1.15, 1.1, 0.05, 5.4, 30, 0.3), voice_centre=70, room_seconds=2.2,
    choir=(64, 57, 50), silent_bars=(),
)  # fmt: skip

HINDUSTANI = Style(
    tempo=108, key=1, scale=BHAIRAV, kit=0, crash=None, fill=(), chords=((0, "5"),),
    drums={64: ("x---x-x-----x---", "x-----x-x---x---"),
           63: ("--x--x-x--xx-x-x", "--xx-x-x-xx-xxxx"), 60: ("----o-------o-o-",),
           61: ("x-------x-------",)},
    bass_program=32, bass=NO_BASS,
    layers=(
        Layer("arpeggio", 104, ("0~~~1~~~1~~~2~~~",), 52, 0.3, 0.7, 0.4, 3),
        Layer("lead", 104, ("x~x~xxx~x~~~x~x~", "x~~~x~xxx~x~x~~~", "--x~x~x~xxxxx~~~"), 68, -0.2,
              1.0, 0.3),
    ),
    rhythms=NO_SONG, singer=NOBODY, voice_centre=60, levels_db=(1.0, 0.0, 1.0, 0.0),
)  # fmt: skip

GAMELAN = Style(
    tempo=116, key=1, scale=PELOG, kit=0, crash=None, fill=(), chords=((0, "5"), (7, "5")),
    drums={61: ("x--x--x---x-x---", "x---x-x--x--x-x-"), 64: ("--o---o-x---o-x-",)},
    bass_program=32, bass=NO_BASS,
    layers=(
        Layer("lead", 11, ("x~x~x~x~x~x~x~x~",), 72, -0.5, 0.8, 0.35),
        Layer("lead", 108, ("xxxxxxxxxxxxxxxx", "x-xxx-xxx-xxx-xx"), 84, 0.5, 0.6, 0.3),
        Layer("lead", 114, ("x~~~x~~~x~~~x~~~",), 60, 0.2, 0.8, 0.4),
        Layer("pad", 14, (WHOLE, REST), 38, 0.0, 0.9, 0.5, 1),
    ),
    rhythms=NO_SONG, singer=NOBODY, voice_centre=60, levels_db=(-2.0, 0.0, 2.0, 0.0),
)  # fmt: skip

AMBIENT = Style(
    tempo=60, key=5, scale=MAJOR, kit=0, crash=None, fill=(), drums={},
    chords=((0, "maj9"), (7, "sus2")),
    bass_program=89, bass=("R~~~~~~~~~~~~~~~",),
    layers=(
        Layer("pad", 94, (WHOLE,), 64, -0.3, 0.6, 0.8),
        Layer("arpeggio", 88, ("0-------2---1---", "----3-------0---"), 76, 0.4, 0.5, 0.8),
    ),
    rhythms=NO_SONG, singer=NOBODY, voice_centre=60, levels_db=(0.0, -2.0, 2.0, 0.0),
    room_seconds=2.5,
    textures=(
        Texture("other", 900.0, 2.5, 5.0, 0.03, -0.4),
        Texture("other", 3800.0, 1.5, 3.2, 0.02, 0.5),
    ),
)  # fmt: skip

SOLO_PIANO = Style(
    tempo=84, key=3, scale=MINOR, kit=0, crash=None, fill=(), drums={},
    chords=((0, "min"), (8, "maj7"), (5, "m7"), (7, "7")),
    bass_program=32, bass=NO_BASS,
    layers=(
        Layer("arpeggio", 0, ("0~1~2~1~0~1~2~3~", "0~2~1~2~3~2~1~2~"), 50, 0.0, 0.8, 0.3),
        Layer("lead", 0, ("x~~~x~x~x~~~----", "--x~x~x~x~~~x~~~"), 76, 0.0, 1.0, 0.3),
    ),
    rhythms=NO_SONG, singer=NOBODY, voice_centre=60,
)  # fmt: skip

GENRES: dict[str, Style] = {
    "rock": ROCK,
    "metal": METAL,
    "pop_ballad": POP_BALLAD,
    "hip_hop": HIP_HOP,
    "house": HOUSE,
    "drum_and_bass": DRUM_AND_BASS,
    "folk": FOLK,
    "latin": LATIN,
    "jazz_trio": JAZZ_TRIO,
    "jazz_vocal": JAZZ_VOCAL,
    "string_quartet": STRING_QUARTET,
    "orchestral": ORCHESTRAL,
    "a_cappella": A_CAPPELLA,
    "hindustani": HINDUSTANI,
    "gamelan": GAMELAN,
    "ambient": AMBIENT,
    "solo_piano": SOLO_PIANO,
}


def variant(style: Style, rng: np.random.Generator) -> Style:
    """One piece of a genre: the same idiom in another key, tempo, balance and voice."""
    singer = style.singer
    return replace(
        style,
        key=(style.key + int(rng.integers(12))) % 12,
        tempo=float(style.tempo * rng.uniform(0.92, 1.08)),
        chords=_turned(style.chords, rng),
        bass=_turned(style.bass, rng),
        layers=tuple(
            replace(
                layer,
                patterns=_turned(layer.patterns, rng),
                level=float(np.clip(layer.level * rng.uniform(0.8, 1.15), 0.2, 1.0)),
                pan=float(layer.pan * rng.choice([-1, 1])),
            )
            for layer in style.layers
        ),
        rhythms=_turned(style.rhythms, rng),
        singer=replace(
            singer,
            formant_scale=float(singer.formant_scale * rng.uniform(0.95, 1.06)),
            tilt=float(singer.tilt * rng.uniform(0.95, 1.08)),
            vibrato_hz=float(singer.vibrato_hz * rng.uniform(0.92, 1.08)),
        ),
        voice_centre=style.voice_centre + int(rng.integers(-3, 4)),
        levels_db=tuple((np.array(style.levels_db) + rng.uniform(-2, 2, 4)).tolist()),
    )


def _turned(items: tuple[T, ...], rng: np.random.Generator) -> tuple[T, ...]:
    """The same items in the same order, begun elsewhere."""
    start = int(rng.integers(len(items)))
    return items[start:] + items[:start]
