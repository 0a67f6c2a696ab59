"""Trains the embedded architecture from scratch and keeps it at several stages: separators that
are as imperfect as they are early.

    python -m tests.data.studio.training_data DATA --pieces 140
    python -m tests.benchmarks.quality.stages DATA build/quality/training

DATA holds pieces of random styles: none of the benchmark's. The learning rate follows the steps,
not the clock, so that a stage means the same on every machine; 800 steps take about 20 minutes
of one AVX2 core.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import torch
from demucs.htdemucs import HTDemucs
from safetensors.torch import load_file, save_file

from tests.data.studio.score import SAMPLE_RATE
from tests.data.studio.train import SEGMENT_SECONDS, Corpus, Trainer, embedded_network

STAGES = (30, 100, 300, 800)
BATCH = 2
RATE = 1.5e-3
SEED = 5


def stage_path(folder: Path, steps: int) -> Path:
    """Where the network of a stage is kept."""
    return folder / f"htdemucs_{steps:05d}.safetensors"


def load_stage(path: Path) -> HTDemucs:
    """The network of a stage, ready to separate."""
    network = embedded_network(SEED)
    network.load_state_dict(load_file(path))
    network.eval()
    return network


def train(data: Path, out: Path) -> None:
    """Runs through every stage; each is the running average of the weights, as it is exported."""
    torch.set_num_threads(1)
    model = embedded_network(SEED)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.99))
    trainer = Trainer(model, copy.deepcopy(model), optimizer, RATE, seconds=STAGES[-1])
    corpus = Corpus(data, SEED)
    start = time.monotonic()
    while trainer.steps < STAGES[-1]:
        stems = corpus.batch(BATCH, SEGMENT_SECONDS * SAMPLE_RATE)
        loss = trainer.step(stems, elapsed=trainer.steps)
        if trainer.steps % 20 == 0:
            print(f"{time.monotonic() - start:.0f} s, step {trainer.steps}, loss {loss:.2f}",
                  flush=True)  # fmt: skip
        if trainer.steps in STAGES:
            path = stage_path(out, trainer.steps)
            state = {
                name: value.contiguous() for name, value in trainer.average.state_dict().items()
            }
            save_file(state, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that training_data made")
    parser.add_argument("out", type=Path, help="where the stages are kept")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train(options.data, options.out)


if __name__ == "__main__":
    main()
