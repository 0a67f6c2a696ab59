"""Real separators, imperfect each in its way. Their outputs are taken as they come.

Masks (of true power spectra P_i, Hann 2048, hop 512, applied to the mixture's bins): the Wiener
filter P_i / ΣP, the amplitude ratio √P_i / Σ√P, the binary mask (the loudest stem takes all), and
Wiener filters of power spectra that are only estimated: blurred over time and frequency, or off by
a random factor. Harmonic-percussive separation is librosa's; networks are the embedded model, the
stages of `stages.py` and the small recurrent one of `recurrent.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
from demucs.htdemucs import HTDemucs
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tests.benchmarks.embedded_model import embedded_model, separate
from tests.benchmarks.quality.audio import Audio
from tests.benchmarks.quality.recurrent import load_recurrent, separate_recurrent
from tests.benchmarks.quality.short_time import HOP, SIZE, signal, smooth_noise, spectra
from tests.benchmarks.quality.stages import load_stage
from tests.data.studio.score import SAMPLE_RATE, STEMS

Stems = dict[str, Audio]
Power = NDArray[np.float64]
TINY = 1e-14


@dataclass(frozen=True)
class Separator:
    """A way to separate: called with the mixture and, for oracles, the reference stems."""

    name: str
    stage: str
    run: Callable[[Audio, Mapping[str, Audio], np.random.Generator], Stems]

    @property
    def case(self) -> str:
        return f"sep_{self.name}" + (f"_{self.stage}" if self.stage else "")


def separators(networks: Path | None) -> list[Separator]:
    """Those that need no training, the embedded model, and the networks found in a folder."""
    found = [
        Separator("wiener", "oracle", lambda m, t, r: _masked(m, _shares(_powers(t)))),
        Separator("ratio", "oracle", lambda m, t, r: _masked(m, _shares(np.sqrt(_powers(t))))),
        Separator("binary", "oracle", lambda m, t, r: _masked(m, _winner(_powers(t)))),
        Separator("wiener", "blurred", lambda m, t, r: _masked(m, _shares(_blurred(_powers(t))))),
        Separator("wiener", "noisy", lambda m, t, r: _masked(m, _shares(_noisy(_powers(t), r)))),
        Separator("hpss", "soft", lambda m, t, r: harmonic_percussive(m, 1.0)),
        Separator("hpss", "margin", lambda m, t, r: harmonic_percussive(m, 2.0)),
        Separator("embedded", "shipped", _network(embedded_model())),
    ]
    if networks is not None:
        for path in sorted(networks.glob("htdemucs_*.safetensors")):
            stage = _network(load_stage(path))
            found.append(Separator("htdemucs", path.stem[-5:], stage))
        for path in sorted(networks.glob("recurrent_*.safetensors")):
            found.append(Separator("recurrent", path.stem[-5:], _recurrent(path)))
    return found


def _recurrent(path: Path) -> Callable[..., Stems]:
    network = load_recurrent(path)
    return lambda mixture, true, rng: separate_recurrent(network, mixture)


def _network(model: HTDemucs) -> Callable[..., Stems]:
    def run(mixture: Audio, true: Mapping[str, Audio], rng: np.random.Generator) -> Stems:
        return dict(zip(STEMS, separate(model, mixture), strict=True))

    return run


def harmonic_percussive(mixture: Audio, margin: float) -> Stems:
    """librosa's median filters; the harmonic part is split by frequency and by panning.

    Drums are what is percussive, bass what is harmonic under 200 Hz, vocals what is harmonic in
    the middle of the image from 200 Hz to 8 kHz, other the rest. With a margin over 1 some of the
    mixture belongs to neither part and is lost.
    """
    bins = spectra(mixture)
    harmonic, percussive = librosa.decompose.hpss(
        np.abs(bins.mean(axis=0)), kernel_size=(31, 31), mask=True, margin=margin
    )
    hertz = np.fft.rfftfreq(SIZE, 1 / SAMPLE_RATE)[:, None]
    middle, side = np.abs(bins[0] + bins[1]), np.abs(bins[0] - bins[1])
    central = np.clip(1 - 2 * side / (middle + TINY), 0, 1) * (hertz >= 200) * (hertz < 8000)
    low = hertz < 200
    masks = {
        "drums": percussive,
        "bass": harmonic * low,
        "other": harmonic * ~low * (1 - central),
        "vocals": harmonic * ~low * central,
    }
    return {name: signal(bins * mask, mixture.shape[1]) for name, mask in masks.items()}


def _powers(true: Mapping[str, Audio]) -> Power:
    """(stems, bins, frames), both channels together."""
    return np.stack([(np.abs(spectra(true[name])) ** 2).sum(axis=0) for name in STEMS])


def _shares(powers: Power) -> Power:
    return np.asarray(powers / (powers.sum(axis=0) + TINY))


def _winner(powers: Power) -> Power:
    best = powers.argmax(axis=0)
    return np.stack([(best == i) & (power > 0) for i, power in enumerate(powers)]).astype(float)


def _blurred(powers: Power) -> Power:
    """Smeared over about 120 Hz and 0.25 s, as a coarse model of each source would be."""
    return np.stack([gaussian_filter(power, (2.5, 250 / 1000 * SAMPLE_RATE / HOP / 4))
                     for power in powers])  # fmt: skip


def _noisy(powers: Power, rng: np.random.Generator) -> Power:
    """Off by a random factor of 8 dB, alike over neighbouring bins and frames."""
    off = [10 ** (0.8 * smooth_noise(power.shape, (2, 2), rng)) for power in powers]
    return powers * np.stack(off)


def _masked(mixture: Audio, masks: Power) -> Stems:
    bins = spectra(mixture)
    return {
        name: signal(bins * mask, mixture.shape[1]) for name, mask in zip(STEMS, masks, strict=True)
    }
