"""The values a composition is made of; every time is in seconds from the start of the piece."""

from __future__ import annotations

from dataclasses import dataclass

STEMS: tuple[str, ...] = ("drums", "bass", "other", "vocals")
"""The order of the four stems everywhere, which is demucs' own order."""

SAMPLE_RATE = 44_100


@dataclass(frozen=True)
class Note:
    """One note of a General MIDI instrument: pitch and velocity are MIDI numbers (0 to 127)."""

    start: float
    length: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Part:
    """What one MIDI channel plays; pan runs from -1 (left) to 1 (right), level from 0 to 1."""

    stem: str
    program: int
    notes: tuple[Note, ...]
    is_kit: bool = False
    pan: float = 0.0
    level: float = 1.0
    reverb: float = 0.3


@dataclass(frozen=True)
class Syllable:
    """One sung note: a consonant (may be empty), then a vowel held until the note ends."""

    start: float
    length: float
    pitch: int
    strength: float
    consonant: str
    vowel: str


@dataclass(frozen=True)
class Singer:
    """A voice: how long the vocal tract is (formant scale) and how it is used."""

    formant_scale: float = 1.0
    tilt: float = 1.1
    breath: float = 0.03
    vibrato_hz: float = 5.5
    vibrato_cents: float = 35.0
    singers_formant: float = 0.3
    doubled: bool = False


@dataclass(frozen=True)
class SungLine:
    """One more voice of a choir; pan runs from -1 (left) to 1 (right)."""

    song: tuple[Syllable, ...]
    singer: Singer
    pan: float = 0.0


@dataclass(frozen=True)
class Texture:
    """Noise in a band that swells and dies away, as wind, surf or a bowed cymbal does."""

    stem: str
    centre_hz: float
    octaves: float = 1.0
    swell_s: float = 4.0
    level: float = 0.03
    pan: float = 0.0


@dataclass(frozen=True)
class Score:
    """A whole piece: instruments, a sung line, and how the four stems are balanced."""

    seconds: float
    parts: tuple[Part, ...]
    song: tuple[Syllable, ...]
    singer: Singer
    levels_db: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    room_seconds: float = 1.0
    choir: tuple[SungLine, ...] = ()
    textures: tuple[Texture, ...] = ()
