"""A singing voice from first principles: a harmonic source and noise, shaped by moving formants.

The source holds every harmonic of the sung pitch up to 15 kHz, so nothing aliases. Vowels and
consonants are spectral envelopes on a grid of frames; source and noise are filtered with them in
the short-time Fourier domain, which costs a fraction of a second for a whole piece.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from tests.data.studio.score import SAMPLE_RATE, Singer, Syllable

Floats = NDArray[np.float64]

HOP = 256
WINDOW = 1024
TOP_HZ = 15_000.0

VOWELS: dict[str, tuple[tuple[float, float], ...]] = {
    # (centre in Hz, gain in dB) of the first five formants of an adult voice.
    "a": ((750, 0), (1200, -5), (2600, -15), (3300, -18), (4300, -28)),
    "e": ((480, 0), (1850, -10), (2550, -14), (3400, -18), (4400, -28)),
    "i": ((310, 0), (2200, -14), (2950, -15), (3600, -18), (4600, -28)),
    "o": ((470, 0), (850, -6), (2500, -22), (3200, -23), (4200, -32)),
    "u": ((340, 0), (720, -10), (2350, -26), (3200, -27), (4100, -36)),
    "y": ((320, 0), (1700, -13), (2250, -18), (3300, -20), (4300, -30)),
}

CONSONANTS: dict[str, tuple[float, float, float, float]] = {
    # (centre in Hz, width in Hz, noise gain, length in seconds); gain 0 is a voiced murmur.
    "s": (7200, 2600, 0.50, 0.110),
    "sh": (3900, 2200, 0.45, 0.110),
    "f": (6000, 6000, 0.16, 0.080),
    "t": (4800, 3000, 0.60, 0.035),
    "k": (2400, 1400, 0.60, 0.040),
    "p": (900, 1200, 0.45, 0.030),
    "h": (1500, 3000, 0.14, 0.080),
    "m": (0, 0, 0.0, 0.070),
    "n": (0, 0, 0.0, 0.060),
    "l": (0, 0, 0.0, 0.050),
}


def sing(
    song: tuple[Syllable, ...],
    singer: Singer,
    seconds: float,
    room_seconds: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """The sung line as stereo audio of shape (2, samples), at an arbitrary level."""
    samples = round(seconds * SAMPLE_RATE)
    dry = _one_voice(song, singer, samples, rng)
    left = right = dry
    if singer.doubled:
        # A second take, never quite in time or tune, a little to each side.
        second = np.roll(_one_voice(song, singer, samples, rng), round(0.018 * SAMPLE_RATE))
        left, right = dry + 0.7 * second, 0.7 * dry + second
    return _in_a_room(np.stack([left, right]), room_seconds, rng)


def _one_voice(
    song: tuple[Syllable, ...], singer: Singer, samples: int, rng: np.random.Generator
) -> Floats:
    frames = samples // HOP + 1
    hertz = _pitch_curve(song, singer, frames, rng)
    voiced, noisy = _envelopes(song, frames)
    vowel, hiss = _spectra(song, singer, frames)
    source = _harmonics(_to_samples(hertz, samples), singer.tilt)
    noise = rng.standard_normal(samples)
    tone = _shaped(source, vowel * voiced[:, None])
    air = _shaped(noise, vowel * (voiced * singer.breath)[:, None] + hiss * noisy[:, None])
    return tone + air


def _pitch_curve(
    song: tuple[Syllable, ...], singer: Singer, frames: int, rng: np.random.Generator
) -> Floats:
    """Fundamental in Hz for each frame: notes joined by short glides, vibrato, a little drift."""
    note = np.full(frames, float(song[0].pitch) if song else 60.0)
    vibrato = np.zeros(frames)
    for syllable in song:
        first, last = _frames_of(syllable, frames)
        note[first:] = syllable.pitch
        # Vibrato sets in after a quarter of a second, as singers do.
        vibrato[first:last] = np.clip((np.arange(last - first) * HOP / SAMPLE_RATE - 0.2) * 4, 0, 1)
    note = _smoothed(note, 9)
    seconds = np.arange(frames) * HOP / SAMPLE_RATE
    drift = _smoothed(rng.standard_normal(frames), 25) * 0.25
    wobble = np.sin(2 * np.pi * singer.vibrato_hz * seconds + drift * 4)
    cents = vibrato * singer.vibrato_cents * wobble + 25 * drift
    return np.asarray(440.0 * 2 ** ((note - 69 + cents / 100) / 12))


def _envelopes(song: tuple[Syllable, ...], frames: int) -> tuple[Floats, Floats]:
    """Loudness per frame of the voiced source and of the consonants' noise."""
    voiced, noisy = np.zeros(frames), np.zeros(frames)
    for syllable in song:
        first, last = _frames_of(syllable, frames)
        _, _, gain, length = CONSONANTS.get(syllable.consonant, (0, 0, 0.0, 0.0))
        onset = min(first + round(length * SAMPLE_RATE / HOP), last)
        noisy[first:onset] = gain * syllable.strength * np.hanning(onset - first + 2)[1:-1]
        if syllable.consonant in ("m", "n", "l"):
            voiced[first:onset] = 0.35 * syllable.strength
        swell = 1 - 0.35 * np.linspace(0, 1, last - onset) ** 2
        voiced[onset:last] = syllable.strength * swell
    return _smoothed(voiced, 7), noisy


def _spectra(song: tuple[Syllable, ...], singer: Singer, frames: int) -> tuple[Floats, Floats]:
    """Magnitude responses of vowels and of consonants, each of shape (frames, bins)."""
    bins = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    centres = np.tile([f for f, _ in VOWELS["a"]], (frames, 1)).astype(float)
    gains = np.tile([g for _, g in VOWELS["a"]], (frames, 1)).astype(float)
    hiss = np.zeros((frames, bins.size))
    for syllable in song:
        first, last = _frames_of(syllable, frames)
        centres[first:] = [f for f, _ in VOWELS[syllable.vowel]]
        gains[first:] = [g for _, g in VOWELS[syllable.vowel]]
        centre, width, noise_gain, _ = CONSONANTS.get(syllable.consonant, (0, 0, 0.0, 0.0))
        if noise_gain:
            hiss[first:last] = np.exp(-(((bins - centre) / width) ** 2))
    response = np.full((frames, bins.size), 0.004)
    for formant in range(5):
        middle = _smoothed(centres[:, formant], 13)[:, None] * singer.formant_scale
        gain = 10 ** (_smoothed(gains[:, formant], 13)[:, None] / 20)
        spread = 45 + 0.045 * middle
        response += gain / np.sqrt(1 + ((bins - middle) / spread) ** 2)
    ring = 2900 * singer.formant_scale
    response += 0.3 * singer.singers_formant / np.sqrt(1 + ((bins - ring) / 250) ** 2)
    response *= 1 / (1 + (60 / np.maximum(bins, 1)) ** 4)
    return response, hiss


def _harmonics(hertz: Floats, tilt: float) -> Floats:
    """The sum over k of cos(k phase) / k^tilt, faded out below the top so that nothing aliases."""
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    step = 2 * np.cos(phase)
    before, current = np.ones_like(phase), step / 2
    out = np.zeros_like(phase)
    for k in range(1, int(TOP_HZ / hertz.min()) + 1):
        fade = np.clip((TOP_HZ - k * hertz) / 1500, 0, 1) if k * hertz.max() > 13_000 else 1.0
        out += current * fade / k**tilt
        # cos((k+1)x) = 2 cos(x) cos(kx) - cos((k-1)x): no further call of cos is needed.
        before, current = current, step * current - before
    return out


def _shaped(signal: Floats, response: Floats) -> Floats:
    """The signal (samples) filtered frame by frame with response (frames, bins)."""
    frames = response.shape[0]
    window = np.hanning(WINDOW + 1)[:-1]
    padded = np.zeros(frames * HOP + WINDOW)
    padded[WINDOW // 2 : WINDOW // 2 + signal.size] = signal
    cut = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:frames]
    filtered = np.fft.irfft(np.fft.rfft(cut * window) * response, n=WINDOW) * window
    out = np.zeros_like(padded)
    for quarter in range(WINDOW // HOP):
        piece = filtered[:, quarter * HOP : (quarter + 1) * HOP]
        out[quarter * HOP : quarter * HOP + frames * HOP] += piece.reshape(-1)
    return np.asarray(out[WINDOW // 2 : WINDOW // 2 + signal.size] / 1.5)


def _in_a_room(dry: Floats, room_seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Stereo (2, samples) with a reverberant tail of decaying noise, another one on each side."""
    length = round(room_seconds * SAMPLE_RATE)
    decay = np.exp(-6.9 * np.arange(length) / length)
    tail = rng.standard_normal((2, length)) * decay
    tail = np.cumsum(tail * 0.25, axis=-1) * 0.15 + tail * 0.2  # darker than white noise
    tail -= tail.mean(axis=-1, keepdims=True)
    tail /= np.sqrt((tail**2).sum(axis=-1, keepdims=True))
    delay = round(0.018 * SAMPLE_RATE)
    wet = fftconvolve(dry, tail, axes=-1)[:, : dry.shape[1]]
    wet = np.pad(wet, ((0, 0), (delay, 0)))[:, : dry.shape[1]]
    return np.asarray(dry + 0.28 * wet, dtype=np.float32)


def _frames_of(syllable: Syllable, frames: int) -> tuple[int, int]:
    first = min(round(syllable.start * SAMPLE_RATE / HOP), frames - 1)
    last = min(round((syllable.start + syllable.length) * SAMPLE_RATE / HOP), frames)
    return first, max(last, first + 1)


def _smoothed(curve: Floats, width: int) -> Floats:
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(curve, width // 2, mode="edge")
    return np.asarray(np.convolve(padded, kernel / kernel.sum(), mode="valid"))


def _to_samples(frames: Floats, samples: int) -> Floats:
    return np.interp(np.arange(samples), np.arange(frames.size) * HOP, frames)
