"""Turns a style (patterns, chords, instruments, a voice) and a seed into a score.

Patterns are strings with one character a step. Drums: x loud, o middling, . soft, - rest. Bass:
R root, 3, 5, 7, 8 chord tones, a an approach to the next chord, ~ holds, - rests. Chords: x and o
strike, ~ holds, - rests. Arpeggios: a digit picks a tone of the voicing. Melody rhythms: x begins a
note, ~ holds it, - rests.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tests.data.studio.score import Note, Part, Score, Singer, SungLine, Syllable, Texture

QUALITIES: dict[str, tuple[int, ...]] = {
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "5": (0, 7, 12),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
    "m9": (0, 3, 10, 14),
    "maj9": (0, 4, 11, 14),
    "6": (0, 4, 7, 9),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
    "dim": (0, 3, 6),
    "m7b5": (0, 3, 6, 10),
}
MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
DORIAN = (0, 2, 3, 5, 7, 9, 10)
MIXOLYDIAN = (0, 2, 4, 5, 7, 9, 10)

Chord = tuple[int, str]
"""Semitones of the root above the key, and a name of QUALITIES."""

STRENGTH = {"x": 1.0, "o": 0.82, ".": 0.55}


@dataclass(frozen=True)
class Layer:
    """One accompanying instrument: how it plays the chords (chord, arpeggio, pad or lead)."""

    manner: str
    program: int
    patterns: tuple[str, ...]
    centre: int = 62
    pan: float = 0.0
    level: float = 0.8
    reverb: float = 0.35
    tones: int = 4


@dataclass(frozen=True)
class Style:
    """Everything about a piece but the chance: see the module for the pattern letters."""

    tempo: float
    key: int
    scale: tuple[int, ...]
    chords: tuple[Chord, ...]
    kit: int
    drums: dict[int, tuple[str, ...]]
    bass_program: int
    bass: tuple[str, ...]
    layers: tuple[Layer, ...]
    rhythms: tuple[str, ...]
    singer: Singer
    voice_centre: int
    beats: int = 4
    swing: float = 0.0
    fill: tuple[int, ...] = (38, 45, 43)
    crash: int | None = 49
    levels_db: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    room_seconds: float = 1.0
    consonants: tuple[str, ...] = ("", "s", "t", "m", "n", "l", "h", "k", "sh", "f", "p")
    vowels: tuple[str, ...] = ("a", "e", "i", "o", "u")
    silent_bars: tuple[int, ...] = field(default=(0,))
    choir: tuple[int, ...] = ()
    """Centres of further voices, that sing the first one's words on the chord's tones."""
    textures: tuple[Texture, ...] = ()


class _Grid:
    """Turns bar and step into seconds, with swing, and adds a player's small inaccuracy."""

    def __init__(self, style: Style, rng: np.random.Generator) -> None:
        self.steps = style.beats * 4
        self.step_seconds = 60 / style.tempo / 4
        self._swing = style.swing
        self._rng = rng

    def at(self, bar: int, step: float, looseness: float = 0.004) -> float:
        """Seconds of a step; odd sixteenths come late by the swing's share of a step."""
        late = self._swing if int(step) % 2 else 0.0
        exact = (bar * self.steps + step + late) * self.step_seconds
        return float(max(0.0, exact + self._rng.normal(0, looseness)))


def compose(style: Style, seed: int, seconds: float) -> Score:
    """A score of the given length; the same style and seed always give the same score."""
    rng = np.random.default_rng(seed)
    grid = _Grid(style, rng)
    bars = int(np.ceil(seconds / (grid.steps * grid.step_seconds)))
    parts = [_drums(style, grid, bars, rng), _bass(style, grid, bars, rng)]
    parts += [_layer(layer, style, grid, bars, rng) for layer in style.layers]
    song = _song(style, grid, bars, seconds, rng)
    return Score(
        seconds=seconds,
        parts=tuple(parts),
        song=song,
        singer=style.singer,
        levels_db=style.levels_db,
        room_seconds=style.room_seconds,
        choir=tuple(_chorister(index, style, grid, song, rng) for index in range(len(style.choir))),
        textures=style.textures,
    )


def _drums(style: Style, grid: _Grid, bars: int, rng: np.random.Generator) -> Part:
    notes = []
    for bar in range(bars):
        fills = bar % 4 == 3 and bool(style.fill)
        for pitch, patterns in style.drums.items():
            pattern = patterns[bar % len(patterns)]
            for step, letter in enumerate(pattern):
                in_fill = fills and step >= grid.steps - 4 and pitch not in (35, 36)
                if letter in STRENGTH and not in_fill:
                    notes.append(_hit(grid, bar, step, pitch, STRENGTH[letter], rng))
        if fills:
            for step in range(grid.steps - 4, grid.steps):
                drum = style.fill[(step - grid.steps + 4) * len(style.fill) // 4]
                notes.append(_hit(grid, bar, step, drum, rng.uniform(0.7, 1.0), rng))
        if bar % 4 == 0 and style.crash is not None:
            notes.append(_hit(grid, bar, 0, style.crash, 0.85, rng))
    return Part("drums", style.kit, tuple(notes), is_kit=True, reverb=0.1)


def _hit(
    grid: _Grid, bar: int, step: int, pitch: int, strength: float, rng: np.random.Generator
) -> Note:
    velocity = int(np.clip(112 * strength + rng.normal(0, 5), 20, 127))
    return Note(grid.at(bar, step), 0.25, pitch, velocity)


def _bass(style: Style, grid: _Grid, bars: int, rng: np.random.Generator) -> Part:
    notes = []
    for bar in range(bars):
        root, quality = style.chords[bar % len(style.chords)]
        following = style.chords[(bar + 1) % len(style.chords)][0]
        low = _near(style.key + root, 36)
        steps = QUALITIES[quality]
        third, seventh = steps[1], steps[3] if len(steps) > 3 else 10
        tones = {"R": low, "3": low + third, "5": low + 7, "7": low + seventh, "8": low + 12}
        tones["a"] = _near(style.key + following, low) - 1
        for step, letter, held in _held(style.bass[bar % len(style.bass)], "R3578a"):
            velocity = int(np.clip(100 + rng.normal(0, 6), 40, 127))
            length = held * grid.step_seconds * 0.92
            notes.append(Note(grid.at(bar, step), length, tones[letter], velocity))
    return Part("bass", style.bass_program, tuple(notes), reverb=0.08)


def _layer(layer: Layer, style: Style, grid: _Grid, bars: int, rng: np.random.Generator) -> Part:
    notes: list[Note] = []
    if layer.manner == "lead":
        notes = _lead(layer, style, grid, bars, rng)
    else:
        for bar in range(bars):
            root, quality = style.chords[bar % len(style.chords)]
            voicing = _voicing(style.key + root, quality, layer.centre, layer.tones)
            pattern = layer.patterns[bar % len(layer.patterns)]
            notes += _accompany(layer, voicing, pattern, grid, bar, rng)
    return Part("other", layer.program, tuple(notes), pan=layer.pan, level=layer.level,
                reverb=layer.reverb)  # fmt: skip


def _accompany(
    layer: Layer, voicing: list[int], pattern: str, grid: _Grid, bar: int, rng: np.random.Generator
) -> list[Note]:
    notes = []
    letters = "0123456789" if layer.manner == "arpeggio" else "xo."
    for step, letter, held in _held(pattern, letters):
        picked = [voicing[int(letter) % len(voicing)]] if letter.isdigit() else voicing
        strength = 0.9 if letter.isdigit() else STRENGTH[letter]
        length = held * grid.step_seconds * (0.97 if layer.manner == "pad" else 0.9)
        start = grid.at(bar, step)
        for index, pitch in enumerate(picked):
            # A strummed chord spreads over a few milliseconds, from low to high.
            velocity = int(np.clip(96 * strength + rng.normal(0, 5), 25, 120))
            notes.append(Note(start + 0.006 * index, length, pitch, velocity))
    return notes


def _lead(
    layer: Layer, style: Style, grid: _Grid, bars: int, rng: np.random.Generator
) -> list[Note]:
    notes = []
    walk = _Walk(style, layer.centre, rng)
    for bar in range(bars):
        for step, _, held in _held(layer.patterns[bar % len(layer.patterns)], "x"):
            pitch = walk.next(bar, step)
            length = held * grid.step_seconds * 0.93
            velocity = int(np.clip(92 + rng.normal(0, 6), 40, 120))
            notes.append(Note(grid.at(bar, step), length, pitch, velocity))
    return notes


def _song(
    style: Style, grid: _Grid, bars: int, seconds: float, rng: np.random.Generator
) -> tuple[Syllable, ...]:
    """The sung line: two-bar phrases that come back (A A' B A'), new words each time."""
    walk = _Walk(style, style.voice_centre, rng)
    rhythms = [str(pick) for pick in rng.choice(np.array(style.rhythms), size=4)]
    order = (0, 1, 0, 1, 2, 3, 0, 1)
    sung = []
    for bar in range(bars):
        if bar % 8 in style.silent_bars:
            continue
        for step, _, held in _held(rhythms[order[bar % 8]], "x"):
            start = grid.at(bar, step, 0.008)
            length = min(held * grid.step_seconds * 0.96, seconds - 0.1 - start)
            if length < 0.06:
                continue
            sung.append(
                Syllable(start, length, walk.next(bar, step), float(rng.uniform(0.8, 1.0)),
                         str(rng.choice(style.consonants)), str(rng.choice(style.vowels)))
            )  # fmt: skip
    return tuple(sung)


def _chorister(
    index: int, style: Style, grid: _Grid, song: tuple[Syllable, ...], rng: np.random.Generator
) -> SungLine:
    """A voice under the first one: its words at nearly its times, on the chord's nearest tones."""
    centre = style.choir[index]
    bar_seconds = grid.steps * grid.step_seconds
    sung = []
    for syllable in song:
        # Half a step earlier or later a singer's looseness must not change the chord.
        bar = int((syllable.start + grid.step_seconds / 2) / bar_seconds)
        root, quality = style.chords[bar % len(style.chords)]
        tones = [_near(style.key + root + tone, centre) for tone in QUALITIES[quality]]
        pitch = tones[(index + int(rng.integers(2))) % len(tones)]
        start = max(0.0, syllable.start + float(rng.normal(0, 0.012)))
        sung.append(replace(syllable, start=start, pitch=pitch))
    # A lower voice has a longer vocal tract.
    scale = float(np.interp(centre, (45, 74), (0.92, 1.2)) + rng.uniform(-0.03, 0.03))
    pan = -0.7 + 1.4 * index / max(len(style.choir) - 1, 1)
    vibrato_hz = style.singer.vibrato_hz + float(rng.uniform(-0.5, 0.5))
    singer = replace(style.singer, formant_scale=scale, vibrato_hz=vibrato_hz)
    return SungLine(tuple(sung), singer, pan)


class _Walk:
    """A melody that wanders by small steps of the scale and meets the chord on strong beats."""

    def __init__(self, style: Style, centre: int, rng: np.random.Generator) -> None:
        span = range(centre - 8, centre + 10)
        self._scale = [p for p in span if (p - style.key) % 12 in style.scale]
        self._style, self._rng = style, rng
        self._at = len(self._scale) // 2

    def next(self, bar: int, step: int) -> int:
        """The next pitch, for a note that begins on this step of this bar."""
        move = int(self._rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 3]))
        # Near the edge of the range the line turns back.
        if not 1 <= self._at + move < len(self._scale) - 1:
            move = -move
        self._at = int(np.clip(self._at + move, 0, len(self._scale) - 1))
        pitch = self._scale[self._at]
        if step % 8 == 0:
            root, quality = self._style.chords[bar % len(self._style.chords)]
            tones = {(self._style.key + root + t) % 12 for t in QUALITIES[quality]}
            pitch = min(
                (p for p in range(pitch - 6, pitch + 7) if p % 12 in tones),
                key=lambda p: abs(p - pitch),
            )
        return pitch


def _held(pattern: str, letters: str) -> list[tuple[int, str, int]]:
    """Each note of a pattern as (step, letter, steps it is held)."""
    found = []
    for step, letter in enumerate(pattern):
        if letter in letters:
            held = 1
            while step + held < len(pattern) and pattern[step + held] == "~":
                held += 1
            found.append((step, letter, held))
    return found


def _near(pitch: int, centre: int) -> int:
    """The same pitch class within half an octave of the centre."""
    return centre + (pitch - centre + 6) % 12 - 6


def _voicing(root: int, quality: str, centre: int, tones: int) -> list[int]:
    """The chord's tones packed around a centre, so that neighbouring chords lie close by."""
    classes = QUALITIES[quality]
    if quality == "5":
        low = _near(root, centre - 10)
        return [low, low + 7, low + 12]
    near = sorted({_near(root + tone, centre) for tone in classes})
    while len(near) < tones:
        near.append(near[len(near) - len(classes)] + 12)
    return near[:tones]
