"""Trains the embedded model on procedural multitracks and exports it as safetensors.

Run `python -m tests.data.studio.train DATA --minutes 75`. The learning rate follows the wall clock,
so a run always ends with a fully annealed model, however fast the machine is. The bundled pieces
take no part: validation pieces are the first of DATA.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demucs.htdemucs import HTDemucs
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from tests.data.studio.score import SAMPLE_RATE, STEMS

EMBEDDED = Path(__file__).parents[3] / "tasks" / "separation" / "models" / "embedded"
SIGNATURE = "57e30a1d"
SEGMENT_SECONDS = 3
ARCHITECTURE: dict[str, Any] = {
    "sources": list(STEMS),
    "audio_channels": 2,
    "channels": 16,
    "growth": 2,
    "depth": 4,
    "nfft": 4096,
    "cac": True,
    "dconv_depth": 1,
    "bottom_channels": 0,
    "t_layers": 1,
    "t_heads": 4,
    "samplerate": SAMPLE_RATE,
    "segment": SEGMENT_SECONDS,
}
VALIDATION_PIECES = 12
VALIDATION_START = 6 * SAMPLE_RATE
FLOOR = 1e-3


class Corpus:
    """Multitracks in a folder (which may still be filling), remixed into random crops."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._rng = np.random.default_rng(seed)
        self._drawn = 0
        self._paths: list[Path] = []

    @staticmethod
    def held_out(folder: Path) -> list[Path]:
        """The pieces kept for validation: the first of the folder."""
        return sorted(folder.glob("*.npy"))[:VALIDATION_PIECES]

    def batch(self, size: int, samples: int) -> Tensor:
        """Stems of shape (size, 4, 2, samples); their sum is the mixture."""
        if self._drawn % 50 == 0:
            self._paths = sorted(self._folder.glob("*.npy"))[VALIDATION_PIECES:]
        self._drawn += 1
        return torch.from_numpy(np.stack([self._one(samples) for _ in range(size)]))

    def _one(self, samples: int) -> NDArray[np.float32]:
        """A crop: half of them from one piece as it is, half with every stem from another."""
        rng = self._rng
        together = rng.random() < 0.5
        piece, start = self._place(samples)
        stems = np.empty((len(STEMS), 2, samples), dtype=np.float32)
        for index in range(len(STEMS)):
            if not together:
                piece, start = self._place(samples)
            stem = piece[index, :, start : start + samples].astype(np.float32) / 32768
            if rng.random() < 0.5:
                stem = stem[::-1]
            gain = 10 ** (rng.uniform(-5, 5) / 20) * rng.choice([-1, 1])
            stems[index] = stem * np.float32(gain)
        return stems

    def _place(self, samples: int) -> tuple[NDArray[np.int16], int]:
        path = self._paths[int(self._rng.integers(len(self._paths)))]
        piece: NDArray[np.int16] = np.load(path, mmap_mode="r")
        return piece, int(self._rng.integers(piece.shape[-1] - samples))


def embedded_network(seed: int) -> HTDemucs:
    """The embedded architecture with fresh weights."""
    torch.manual_seed(seed)
    network: HTDemucs = HTDemucs(**ARCHITECTURE)
    return network


def separation_loss(estimate: Tensor, stems: Tensor) -> Tensor:
    """Mean log of each stem's error energy over the mixture's; tensors (batch, 4, 2, samples).

    The logarithm gives every stem and crop the same say whatever its loudness, which a plain
    distance doesn't; the floor keeps silent or finished stems from taking over.
    """
    error = (estimate - stems).square().sum(dim=(-2, -1))
    mixture = stems.sum(dim=1, keepdim=True).square().sum(dim=(-2, -1))
    return 10 * torch.log10(error / (mixture + 1e-6) + FLOOR).mean()


def si_sdr(estimate: Tensor, truth: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the last two axes."""
    scale = (estimate * truth).sum(dim=(-2, -1), keepdim=True)
    scale = scale / (truth.square().sum(dim=(-2, -1), keepdim=True) + 1e-8)
    target = scale * truth
    noise = (estimate - target).square().sum(dim=(-2, -1)) + 1e-8
    return 10 * torch.log10(target.square().sum(dim=(-2, -1)) / noise + 1e-8)


@torch.no_grad()
def validate(model: HTDemucs, paths: list[Path]) -> list[float]:
    """SI-SDR improvement in dB of each stem, averaged over one crop of each held-out piece."""
    samples = SEGMENT_SECONDS * SAMPLE_RATE
    model.eval()
    gains = []
    for path in paths:
        piece = np.load(path, mmap_mode="r")
        crop = piece[:, :, VALIDATION_START : VALIDATION_START + samples]
        stems = torch.from_numpy(crop.astype(np.float32) / 32768)
        if (stems.square().mean(dim=(-2, -1)) < 1e-6).any():
            continue  # a silent stem has no SI-SDR
        mixture = stems.sum(dim=0)
        estimate = model(mixture[None])[0]
        gains.append(si_sdr(estimate, stems) - si_sdr(mixture[None].expand_as(stems), stems))
    model.train()
    return [float(value) for value in torch.stack(gains).mean(dim=0)]


def export(model: HTDemucs, folder: Path) -> None:
    """Writes SIGNATURE.safetensors and embedded.yaml, each at once: no reader sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "klass": "demucs.htdemucs.HTDemucs",
        "args": json.dumps([]),
        "kwargs": json.dumps(ARCHITECTURE),
    }
    state = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    scratch = folder / f".{SIGNATURE}.part"
    save_file(state, scratch, metadata=metadata)
    scratch.chmod(0o644)  # safetensors leaves it readable by its owner alone
    scratch.replace(folder / f"{SIGNATURE}.safetensors")
    scratch = folder / ".embedded.part"
    scratch.write_text(f"models: ['{SIGNATURE}']\n")
    scratch.replace(folder / "embedded.yaml")


@dataclass
class Trainer:
    """A model, the running average of its weights, and the clock that anneals its learning rate."""

    model: HTDemucs
    average: HTDemucs
    optimizer: torch.optim.Optimizer
    peak_rate: float
    seconds: float
    steps: int = 0

    def step(self, stems: Tensor, elapsed: float) -> float:
        """One update on stems (batch, 4, 2, samples); returns the loss."""
        warm = min(1.0, (self.steps + 1) / 50)
        progress = min(1.0, elapsed / self.seconds)
        rate = self.peak_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = separation_loss(self.model(stems.sum(dim=1)), stems)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.steps += 1
        self._follow()
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        """Moves the average towards the weights; its memory grows with the run, to 300 steps."""
        decay = min(1 - 1 / 300, self.steps / (self.steps + 10))
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        for kept, new in pairs:
            kept.lerp_(new, 1 - decay)


def train(options: argparse.Namespace) -> None:
    """Trains for a given time; logs validation and exports the averaged weights on the way."""
    torch.set_num_threads(options.threads)
    held_out = Corpus.held_out(options.data)
    model = embedded_network(options.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.rate, betas=(0.9, 0.99))
    seconds = options.minutes * 60
    trainer = Trainer(model, copy.deepcopy(model), optimizer, options.rate, seconds)
    start = time.monotonic()
    next_report, losses = options.every * 60.0, []
    corpus = Corpus(options.data, options.seed)
    while (elapsed := time.monotonic() - start) < seconds:
        stems = corpus.batch(options.batch, SEGMENT_SECONDS * SAMPLE_RATE)
        losses.append(trainer.step(stems, elapsed))
        if trainer.steps % 20 == 0:
            recent = float(np.mean(losses[-20:]))
            print(f"{elapsed:.0f} s, step {trainer.steps}, loss {recent:.3f}", flush=True)
        if elapsed > next_report:
            report(trainer, held_out, elapsed, losses, options)
            next_report += options.every * 60.0
    report(trainer, held_out, elapsed, losses, options)


def report(
    trainer: Trainer, held_out: list[Path], elapsed: float, losses: list[float],
    options: argparse.Namespace,
) -> None:  # fmt: skip
    """Appends a line to the log, exports the model, and saves what a restart would need."""
    gains = validate(trainer.average, held_out)
    line = {
        "minutes": round(elapsed / 60, 1),
        "steps": trainer.steps,
        "loss": round(float(np.mean(losses[-200:])), 3),
        "validation_si_sdr_gain": {n: round(g, 2) for n, g in zip(STEMS, gains, strict=True)},
    }
    with Path(options.log).open("a") as file:
        file.write(json.dumps(line) + "\n")
    export(trainer.average, options.out)
    torch.save({"model": trainer.model.state_dict(), "average": trainer.average.state_dict(),
                "optimizer": trainer.optimizer.state_dict(), "steps": trainer.steps},
               Path(options.log).with_suffix(".state"))  # fmt: skip


def main() -> None:
    """Reads the options and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that training_data made")
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--every", type=float, default=5, help="minutes between reports")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    parser.add_argument("--log", type=Path, default=Path("training_log.jsonl"))
    train(parser.parse_args())


if __name__ == "__main__":
    main()
