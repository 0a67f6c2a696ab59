"""What the embedded model is worth on the bundled pieces, against an untrained control.

Run `python -m tests.benchmarks.embedded_model` from the repository's root; it prints the tables and
writes them to tests/benchmarks/results/embedded_model.md.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile
import torch
import yaml
from demucs.apply import apply_model
from demucs.hf import load_safetensors_model
from demucs.htdemucs import HTDemucs
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "tasks" / "sources" / "bundled"
EMBEDDED = ROOT / "tasks" / "separation" / "models" / "embedded"
RESULTS = Path(__file__).parent / "results" / "embedded_model.md"
STEMS = ("drums", "bass", "other", "vocals")
CONTROL_SEED = 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PieceScore:
    """SI-SDR in dB of the three estimates of one piece, each an array of four (one a stem)."""

    slug: str
    mixture: Floats
    model: Floats
    control: Floats
    seconds_of_audio: float
    seconds_to_separate: float

    @property
    def gain(self) -> Floats:
        """What the model adds over handing out the mixture as every stem."""
        return self.model - self.mixture


def embedded_model() -> HTDemucs:
    """The model that the repository carries, ready to separate."""
    bag = yaml.safe_load((EMBEDDED / "embedded.yaml").read_text())
    model = load_safetensors_model(EMBEDDED / f"{bag['models'][0]}.safetensors")
    if not isinstance(model, HTDemucs):
        raise TypeError(f"the embedded model is a {type(model).__name__}, not an HTDemucs")
    return cast(HTDemucs, model.eval())


def untrained_control(model: HTDemucs) -> HTDemucs:
    """The same architecture with seeded random weights: what training alone accounts for."""
    # demucs keeps what a model was built with; the type checker takes it for a submodule.
    args, kwargs = cast(tuple[tuple[Any, ...], dict[str, Any]], model._init_args_kwargs)
    torch.manual_seed(CONTROL_SEED)
    control: HTDemucs = HTDemucs(*args, **kwargs)
    control.eval()
    return control


def bundled_pieces() -> list[Path]:
    """The folders of the bundled pieces, in order of their names."""
    return sorted(path.parent for path in BUNDLED.glob("*/mixture.flac"))


def read(path: Path, seconds: float | None = None) -> Floats:
    """Audio as (channels, samples); with seconds, only that much from the middle."""
    audio, rate = soundfile.read(path, always_2d=True)
    if seconds is not None and len(audio) > seconds * rate:
        start = (len(audio) - round(seconds * rate)) // 2
        audio = audio[start : start + round(seconds * rate)]
    return np.asarray(audio.T, dtype=np.float64)


def si_sdr(estimate: Floats, truth: Floats) -> float:
    """Scale-invariant signal-to-distortion ratio in dB of one stem (channels, samples)."""
    target = (estimate * truth).sum() / (truth**2).sum() * truth
    return float(10 * np.log10((target**2).sum() / ((estimate - target) ** 2).sum()))


@torch.no_grad()
def separate(model: HTDemucs, mixture: Floats) -> Floats:
    """Stems (4, channels, samples), normalised the way demucs' own Separator does it."""
    audio = torch.from_numpy(mixture).float()
    mean, deviation = audio.mean(0).mean(), audio.mean(0).std() + 1e-8
    stems = apply_model(
        model, ((audio - mean) / deviation)[None], shifts=0, split=True, overlap=0.25
    )[0]
    return np.asarray((stems * deviation + mean).numpy(), dtype=np.float64)


def score_piece(
    folder: Path, model: HTDemucs, control: HTDemucs, seconds: float | None = None
) -> PieceScore:
    """Separates one bundled piece (or its middle) with both networks and scores every stem."""
    mixture = read(folder / "mixture.flac", seconds)
    truths = [read(folder / f"{stem}.flac", seconds) for stem in STEMS]
    start = time.perf_counter()
    estimates = separate(model, mixture)
    elapsed = time.perf_counter() - start
    controls = separate(control, mixture)
    return PieceScore(
        slug=folder.name,
        mixture=np.array([si_sdr(mixture, truth) for truth in truths]),
        model=np.array([si_sdr(e, truth) for e, truth in zip(estimates, truths, strict=True)]),
        control=np.array([si_sdr(e, truth) for e, truth in zip(controls, truths, strict=True)]),
        seconds_of_audio=mixture.shape[1] / 44_100,
        seconds_to_separate=elapsed,
    )


def table(scores: list[PieceScore]) -> str:
    """The scores as a Markdown table, a row a piece and stem, means last."""
    lines = [
        "| piece | stem | mixture as estimate | embedded model | improvement | untrained control |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for score in scores:
        columns = zip(STEMS, score.mixture, score.model, score.gain, score.control, strict=True)
        for stem, *values in columns:
            lines.append(f"| {score.slug} | {stem} | " + _cells(values) + " |")
    for index, stem in enumerate(STEMS):
        means = [
            float(np.mean([getattr(score, name)[index] for score in scores]))
            for name in ("mixture", "model", "gain", "control")
        ]
        lines.append(f"| **mean** | **{stem}** | " + _cells(means) + " |")
    return "\n".join(lines)


def _cells(values: list[float]) -> str:
    mixture, model, gain, control = values
    return f"{mixture:.2f} | {model:.2f} | **{gain:+.2f}** | {control:.2f}"


def main() -> None:
    """Scores every bundled piece; prints the table and writes it beside the other results."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, help="only the middle of each piece")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    model = embedded_model()
    control = untrained_control(model)
    scores = [score_piece(folder, model, control, options.seconds) for folder in bundled_pieces()]
    audio = sum(score.seconds_of_audio for score in scores)
    spent = sum(score.seconds_to_separate for score in scores)
    text = (
        "# The embedded model on the bundled pieces\n\n"
        "SI-SDR in dB (higher is better). None of these pieces was seen in training.\n\n"
        f"{table(scores)}\n\n"
        f"{audio:.0f} s of music separated in {spent:.1f} s of wall clock "
        f"({audio / spent:.1f} times real time, {torch.get_num_threads()} CPU threads).\n\n"
        "Made by `python -m tests.benchmarks.embedded_model`.\n"
    )
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)


if __name__ == "__main__":
    main()
