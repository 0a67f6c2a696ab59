"""Ways in which a separation goes wrong, each on purpose and at several strengths.

A scene is a piece's reference stems, one of them chosen, and another that it gets mixed up with.
What a kind returns replaces those stems; zero-sum kinds move a part from one stem to the other, so
that the stems' sum stays the mixture to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.quality import damage
from tests.benchmarks.quality.audio import Audio, on_grid
from tests.benchmarks.quality.codec import through_codec
from tests.benchmarks.quality.short_time import signal, smooth_noise, spectra
from tests.data.studio.score import SAMPLE_RATE

Generator = np.random.Generator
TINY = 1e-12


@dataclass(frozen=True)
class Scene:
    """Reference stems (every array of shape (2, samples)), the one to damage, and its partner."""

    stems: Mapping[str, Audio]
    target: str
    partner: str

    @property
    def chosen(self) -> Audio:
        return self.stems[self.target]

    @property
    def other(self) -> Audio:
        return self.stems[self.partner]

    @property
    def mixture(self) -> Audio:
        return np.asarray(sum(self.stems.values()))

    def moved(self, part: Audio) -> dict[str, Audio]:
        """`part` leaves the target for the partner."""
        part = on_grid(part)
        return {self.target: self.chosen - part, self.partner: self.other + part}


Changed = dict[str, Audio]
"""The stems that a degradation replaces; under "mixture", a mixture that it replaces too."""


def bleed(scene: Scene, level_db: float, rng: Generator) -> Changed:
    """The partner is heard in the target too, at `level_db` of the target's energy."""
    heard = damage.at_level(scene.other, scene.chosen, level_db)
    return {scene.target: on_grid(scene.chosen + heard)}


def zero_sum_bleed(scene: Scene, share: float, rng: Generator) -> Changed:
    """A share of the target's amplitude sits in the partner instead."""
    return scene.moved(share * scene.chosen)


def band_bleed(scene: Scene, share: float, rng: Generator) -> Changed:
    """The same in one octave only, where the target is strong."""
    bins = np.fft.rfft(scene.chosen)
    hertz = np.fft.rfftfreq(scene.chosen.shape[1], 1 / SAMPLE_RATE)
    octaves = np.floor(np.log2(np.maximum(hertz, 20) / 50))
    energy = {o: (np.abs(bins[:, octaves == o]) ** 2).sum() for o in range(8)}
    strong = sorted(energy, key=lambda o: -energy[o])[:3]
    inside = octaves == strong[int(rng.integers(len(strong)))]
    return scene.moved(share * np.fft.irfft(bins * inside, n=scene.chosen.shape[1]))


def misassignment(scene: Scene, share: float, rng: Generator) -> Changed:
    """Whole patches of the spectrogram went to the partner: confident, and wrong."""
    bins = spectra(scene.chosen)
    wrong = damage.patches(bins.shape[-2:], share, rng)
    return scene.moved(signal(bins * wrong, scene.chosen.shape[1]))


def mask_noise(scene: Scene, spread: float, rng: Generator) -> Changed:
    """The two stems' sum shared out anew by their ratio mask, which is off by `spread`."""
    first, second = spectra(scene.chosen), spectra(scene.other)
    powers = [(np.abs(x) ** 2).mean(axis=0) for x in (first, second)]
    mask = powers[0] / (powers[0] + powers[1] + TINY)
    mask = np.clip(mask + spread * smooth_noise(mask.shape, (1.5, 1.5), rng), 0, 1)
    kept = signal(mask * (first + second), scene.chosen.shape[1])
    return scene.moved(scene.chosen - kept)


def swap(scene: Scene, share: float, rng: Generator) -> Changed:
    """The two stems change places, for the last `share` of the time (a fade of 20 ms)."""
    samples = scene.chosen.shape[1]
    since = np.arange(samples) - (1 - share) * samples
    swapped = np.clip(since / (0.02 * SAMPLE_RATE), 0, 1) if share < 1 else np.ones(samples)
    return scene.moved(swapped * (scene.chosen - scene.other))


def absorbed(scene: Scene, share: float, rng: Generator) -> Changed:
    """The target is gone, and (nearly) all of it is in the partner: the model didn't hear it."""
    return scene.moved(share * scene.chosen)


def lossy_source(scene: Scene, kbps: float, rng: Generator) -> Changed:
    """The mixture came through MP3 (or AAC): what the codec changed is in the stems too.

    An ideal separator of a lossy mixture can do no better than share out the codec's error: each
    stem is the true one plus its power's share of the error in every bin. The truth stays the
    stem as it was before the codec. The stems sum to the lossy mixture.
    """
    codec = ("mp3", "aac")[int(rng.integers(2))]
    lossy = on_grid(through_codec(scene.mixture, codec, round(kbps)))
    error = spectra(lossy - scene.mixture)
    powers = {name: np.abs(spectra(stem)) ** 2 for name, stem in scene.stems.items()}
    whole = sum(powers.values()) + TINY
    samples = lossy.shape[1]
    changed = {}
    for name, power in powers.items():
        if power.any():
            share = signal(error * power / whole, samples)
            changed[name] = on_grid(scene.stems[name] + share)
    return changed | {"mixture": lossy}


def _alone(function: Callable[[Audio, float, Generator], Audio]) -> Callable[..., Changed]:
    def apply(scene: Scene, strength: float, rng: Generator) -> Changed:
        return {scene.target: on_grid(function(scene.chosen, strength, rng))}

    apply.__doc__ = function.__doc__
    return apply


@dataclass(frozen=True)
class Kind:
    """A degradation, its strengths from mild to severe, and what it needs.

    `pair` needs a second stem that sounds; `alone` may hit two stems at once.
    """

    name: str
    apply: Callable[[Scene, float, Generator], Changed]
    strengths: tuple[float, ...]
    zero_sum: bool = False
    pair: bool = False
    alone: bool = False


def _single(name: str, function: Callable[..., Audio], *strengths: float) -> Kind:
    return Kind(name, _alone(function), strengths, alone=True)


KINDS: tuple[Kind, ...] = (
    Kind("bleed", bleed, (-20, -12, -6, 0), pair=True),
    Kind("zero_sum_bleed", zero_sum_bleed, (0.15, 0.3, 0.5, 0.75), zero_sum=True),
    Kind("band_bleed", band_bleed, (0.3, 0.6, 1.0), zero_sum=True),
    Kind("misassignment", misassignment, (0.1, 0.25, 0.5), zero_sum=True),
    Kind("mask_noise", mask_noise, (0.1, 0.25, 0.5, 1.0), zero_sum=True, pair=True),
    Kind("swap", swap, (0.15, 0.4, 1.0), zero_sum=True, pair=True),
    Kind("absorbed", absorbed, (0.85, 0.95, 1.0), zero_sum=True),
    Kind("lossy_source", lossy_source, (96, 64, 48, 32)),
    _single("musical_noise", damage.musical_noise, -20, -10, -3),
    _single("holes", damage.holes, 0.1, 0.3, 0.6),
    _single("dropouts", damage.dropouts, 0.05, 0.2, 0.45),
    _single("truncation", damage.truncation, 0.1, 0.3, 0.6),
    _single("lowpass", damage.lowpass, 8000, 3500, 1000, 300),
    _single("clipping", damage.clipping, 6, 14, 24),
    _single("gain", damage.gain, 2, -3, 5, -9),
    _single("polarity", damage.polarity, 0.25, 0.5, 1.0),
    _single("time_shift", damage.time_shift, 0.2, 1, 5, 30),
    _single("phase_smear", damage.phase_smear, 0.3, 0.7, 1.3),
    _single("mono_collapse", damage.mono_collapse, 0.5, 0.25, 0.0),
    _single("silence", damage.silence, -20, -45, -100),
    _single("reverb", damage.reverb, -14, -6, 0),
    _single("dry_out", damage.dry_out, -14, -6, 0),
    _single("noise", damage.noise, -20, -10, 0),
)
