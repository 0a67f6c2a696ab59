"""From a score to four stems of stereo audio, through FluidSynth's library and our own voice.

FluidSynth is driven through ctypes: notes are sent and blocks are pulled in one thread, so the
same score gives the same samples, with no MIDI file, audio driver or wall clock in between.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft, rfftfreq

from tests.data.studio.score import SAMPLE_RATE, STEMS, Part, Score
from tests.data.studio.texture import breathe
from tests.data.studio.voice import sing

SOUND_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
BLOCK = 64
HEADROOM = 0.4
STEM_RMS = 0.07
TOP_HZ = 17_000.0
BOTTOM_HZ = 20.0

PAN, VOLUME, REVERB_SEND = 10, 7, 91


class Synthesizer:
    """FluidSynth with one sound font loaded; renders a list of parts to audio."""

    def __init__(self, sound_font: Path = SOUND_FONT) -> None:
        name = ctypes.util.find_library("fluidsynth") or "libfluidsynth.so.3"
        self._lib = _declared(ctypes.CDLL(name))
        settings = self._lib.new_fluid_settings()
        self._lib.fluid_settings_setnum(settings, b"synth.sample-rate", float(SAMPLE_RATE))
        self._lib.fluid_settings_setnum(settings, b"synth.gain", 0.4)
        self._lib.fluid_settings_setint(settings, b"synth.chorus.active", 0)
        self._synth = self._lib.new_fluid_synth(settings)
        if self._lib.fluid_synth_sfload(self._synth, str(sound_font).encode(), 1) < 0:
            raise FileNotFoundError(f"{sound_font}: apt install fluid-soundfont-gm")

    def render(self, parts: list[Part], seconds: float) -> NDArray[np.float32]:
        """The parts together, shape (2, samples), with the synthesizer's own reverb."""
        self._lib.fluid_synth_system_reset(self._synth)
        samples = round(seconds * SAMPLE_RATE)
        out = np.zeros((2, -(-samples // BLOCK) * BLOCK), dtype=np.float32)
        done = 0
        for at, is_on, channel, pitch, velocity in self._events(parts, out.shape[1]):
            self._pull(out, done, at)
            done = at
            if is_on:
                self._lib.fluid_synth_noteon(self._synth, channel, pitch, velocity)
            else:
                self._lib.fluid_synth_noteoff(self._synth, channel, pitch)
        self._pull(out, done, out.shape[1])
        return out[:, :samples]

    def _events(self, parts: list[Part], samples: int) -> list[tuple[int, bool, int, int, int]]:
        """Note ons and offs as (sample, is on, channel, pitch, velocity), in order of time."""
        events = []
        melodic = [channel for channel in range(16) if channel != 9]
        for part in parts:
            channel = 9 if part.is_kit else melodic.pop(0)
            # Kits live in bank 128, where a channel looks once it is declared a drum channel.
            self._lib.fluid_synth_bank_select(self._synth, channel, 128 if part.is_kit else 0)
            self._lib.fluid_synth_program_change(self._synth, channel, part.program)
            for control, value in (
                (PAN, round(64 + 63 * part.pan)),
                (VOLUME, round(110 * part.level)),
                (REVERB_SEND, round(127 * part.reverb)),
            ):
                self._lib.fluid_synth_cc(self._synth, channel, control, value)
            for note in part.notes:
                start = _on_a_block(note.start)
                end = max(_on_a_block(note.start + note.length), start + BLOCK)
                if start < samples:
                    events.append((start, True, channel, note.pitch, note.velocity))
                    events.append((min(end, samples), False, channel, note.pitch, 0))
        return sorted(events)  # at one instant False sorts first: offs go before ons

    def _pull(self, out: NDArray[np.float32], start: int, end: int) -> None:
        if end > start:
            left = out[0, start:].ctypes.data_as(ctypes.c_void_p)
            right = out[1, start:].ctypes.data_as(ctypes.c_void_p)
            self._lib.fluid_synth_write_float(self._synth, end - start, left, 0, 1, right, 0, 1)


def _on_a_block(seconds: float) -> int:
    """The nearest sample at which FluidSynth starts one of its blocks."""
    return round(seconds * SAMPLE_RATE / BLOCK) * BLOCK


def _declared(lib: ctypes.CDLL) -> ctypes.CDLL:
    """Pointers come back whole only when ctypes is told that they are pointers."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    lib.new_fluid_settings.restype = pointer
    lib.new_fluid_synth.restype = pointer
    lib.new_fluid_synth.argtypes = [pointer]
    lib.fluid_settings_setnum.argtypes = [pointer, ctypes.c_char_p, ctypes.c_double]
    lib.fluid_settings_setint.argtypes = [pointer, ctypes.c_char_p, integer]
    lib.fluid_synth_sfload.argtypes = [pointer, ctypes.c_char_p, integer]
    lib.fluid_synth_system_reset.argtypes = [pointer]
    lib.fluid_synth_bank_select.argtypes = [pointer, integer, integer]
    lib.fluid_synth_program_change.argtypes = [pointer, integer, integer]
    lib.fluid_synth_cc.argtypes = [pointer, integer, integer, integer]
    lib.fluid_synth_noteon.argtypes = [pointer, integer, integer, integer]
    lib.fluid_synth_noteoff.argtypes = [pointer, integer, integer]
    lib.fluid_synth_write_float.argtypes = [
        pointer, integer, pointer, integer, integer, pointer, integer, integer,
    ]  # fmt: skip
    return lib


def render_stems(
    score: Score, synthesizer: Synthesizer, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Four stems as 16-bit samples, shape (4, 2, samples), whose plain sum does not clip."""
    stems = []
    for name, level_db in zip(STEMS, score.levels_db, strict=True):
        if name == "vocals":
            audio = _sung(score, rng)
        else:
            parts = [part for part in score.parts if part.stem == name and part.notes]
            # With nothing to play its reverb still hums at -160 dB, which levelling would raise.
            silence = np.zeros((2, round(score.seconds * SAMPLE_RATE)), dtype=np.float32)
            audio = synthesizer.render(parts, score.seconds) if parts else silence
            for texture in score.textures:
                if texture.stem == name:
                    audio = audio + breathe(texture, score.seconds, rng)
        stems.append(_levelled(_band_limited(audio)) * np.float32(10 ** (level_db / 20)))
    together = np.stack(stems) * _fades(round(score.seconds * SAMPLE_RATE))
    peak = max(np.abs(together.sum(axis=0)).max(), np.abs(together).max())
    together *= HEADROOM / peak
    return np.round(together * 32767).astype(np.int16)


def _sung(score: Score, rng: np.random.Generator) -> NDArray[np.float32]:
    """The sung line, and around it the choir's."""
    audio = sing(score.song, score.singer, score.seconds, score.room_seconds, rng)
    for line in score.choir:
        voice = sing(line.song, line.singer, score.seconds, score.room_seconds, rng)
        sides = np.sqrt(np.array([[1 - line.pan], [1 + line.pan]]))
        audio = np.asarray(audio + sides * voice, dtype=np.float32)
    return audio


def _levelled(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Audio (2, samples) at the common loudness; rests don't count, so sparse parts aren't loud."""
    power = (audio[:, : audio.shape[1] // 2048 * 2048] ** 2).reshape(2, -1, 2048).mean(axis=(0, 2))
    active = power[power > 0.03 * power.max()] if power.max() > 0 else np.ones(1)
    return np.asarray(audio * (STEM_RMS / np.sqrt(active.mean())), dtype=np.float32)


def _band_limited(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The audio without what lies above 17 kHz: hiss that few hear and that FLAC can't pack.

    And without what lies under 20 Hz: some of the sound font's samples stand off zero, and an
    offset counts as energy although nobody hears it.
    """
    spectrum = rfft(audio)
    hertz = rfftfreq(audio.shape[-1], 1 / SAMPLE_RATE)
    spectrum *= np.clip((TOP_HZ - hertz) / 500 + 0.5, 0, 1).astype(np.float32)
    spectrum *= np.clip((hertz - BOTTOM_HZ) / 10 + 0.5, 0, 1).astype(np.float32)
    return np.asarray(irfft(spectrum, n=audio.shape[-1]), dtype=np.float32)


def _fades(samples: int) -> NDArray[np.float32]:
    """A gain curve that opens in 5 ms and closes in 0.4 s."""
    curve = np.ones(samples, dtype=np.float32)
    opening, closing = round(0.005 * SAMPLE_RATE), round(0.4 * SAMPLE_RATE)
    curve[:opening] = np.linspace(0, 1, opening)
    curve[-closing:] = np.linspace(1, 0, closing) ** 2
    return curve
