"""A small multitrack made of arithmetic: four stems with spectra and rhythms of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.signal
import soundfile as sf

from tasks.contracts import QualityPolicy, QualityReport
from tasks.quality import score_separation

RATE = 44_100
SECONDS = 10
NAMES = ("drums", "bass", "other", "vocals")
Audio = npt.NDArray[np.float64]
Stems = dict[str, Audio]


def reference_stems(seconds: float = SECONDS, seed: int = 0) -> Stems:
    """Stereo stems: noise bursts, low notes, chords and a gliding, breathing voice."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    return {
        "drums": _stereo(_drums(t, rng), 0.45),
        "bass": _stereo(_notes(t, rng, (41.2, 55.0, 61.7, 49.0), 0.5, 6), 0.48),
        "other": _stereo(_chords(t, rng), 0.7),
        "vocals": _stereo(_voice(t, rng), 0.52),
    }


def _stereo(mono: Audio, pan: float) -> Audio:
    level = 0.08 / float(np.sqrt(np.mean(mono**2) + 1e-12))
    # Strings and reeds hiss a little; a sum of sines alone would end in a cliff.
    hiss = 0.01 * np.std(mono) * np.random.default_rng(int(1e6 * pan)).standard_normal(len(mono))
    mono = mono + hiss * np.abs(mono) / (np.abs(mono).max() + 1e-12)
    return np.asarray(level * np.stack([mono * np.sqrt(1 - pan), mono * np.sqrt(pan)], axis=1))


def _drums(t: Audio, rng: np.random.Generator) -> Audio:
    beat = t % 0.43
    hats = rng.standard_normal(len(t)) * np.exp(-(t % 0.215) * 40)
    kick = np.sin(2 * np.pi * (50 * beat + 20 * np.exp(-beat * 40) / 40)) * np.exp(-beat * 12)
    sos = scipy.signal.butter(2, 5000, "highpass", fs=RATE, output="sos")
    return np.asarray(0.3 * scipy.signal.sosfilt(sos, hats) + 0.3 * kick)


def _notes(
    t: Audio, rng: np.random.Generator, pitches: tuple[float, ...], length: float, partials: int
) -> Audio:
    index = (t / length).astype(int)
    pitch = np.asarray(pitches)[rng.integers(len(pitches), size=index.max() + 1)][index]
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase + k) / k for k in range(1, partials + 1))
    attack = np.minimum((t % length) / 0.01, 1) * np.exp(-(t % length) * 3)
    return np.asarray(tone * attack)


def _chords(t: Audio, rng: np.random.Generator) -> Audio:
    low = _notes(t, rng, (220.0, 246.9, 196.0), 1.1, 5)
    middle = _notes(t, rng, (329.6, 370.0, 293.7), 1.1, 5)
    return low + middle


def _voice(t: Audio, rng: np.random.Generator) -> Audio:
    pitch = 440 * 2 ** (0.3 * np.sin(2 * np.pi * 0.21 * t) + 0.03 * np.sin(2 * np.pi * 5.7 * t))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase) / k**1.5 for k in range(1, 12))
    breath = 0.05 * rng.standard_normal(len(t))
    phrases = np.clip(1.5 + 2 * np.sin(2 * np.pi * 0.31 * t), 0, 1) ** 2
    return np.asarray((tone + breath) * phrases)


def mixed(stems: Mapping[str, Audio]) -> Audio:
    return np.asarray(np.sum(list(stems.values()), axis=0))


def write(folder: Path, mixture: Audio, stems: Mapping[str, Audio]) -> dict[str, Path]:
    """Float WAVs, so that nothing but the damage changes a sample."""
    sf.write(folder / "mixture.wav", mixture, RATE, subtype="FLOAT")
    for name, audio in stems.items():
        sf.write(folder / f"{name}.wav", audio, RATE, subtype="FLOAT")
    return {name: folder / f"{name}.wav" for name in stems}


def score(
    folder: Path,
    mixture: Audio,
    stems: Mapping[str, Audio],
    policy: QualityPolicy | None = None,
    *,
    gain: float = 1.0,
    all_stems: bool = True,
) -> QualityReport:
    paths = write(folder, mixture, stems)
    return score_separation(folder / "mixture.wav", paths, policy, gain=gain, all_stems=all_stems)
