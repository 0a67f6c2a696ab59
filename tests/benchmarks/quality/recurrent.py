"""A second family of learned separators: a small recurrent network that estimates masks.

    python -m tests.benchmarks.quality.recurrent DATA build/quality/training

A two-way GRU over the mixture's magnitudes in 96 mel bands gives each stem's share of each band;
shares become masks on the mixture's bins. Trained on what the HTDemucs stages are, 2 s at a time;
400 steps take about 5 minutes of one AVX2 core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import librosa
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.benchmarks.quality.audio import Audio
from tests.data.studio.score import SAMPLE_RATE, STEMS
from tests.data.studio.train import Corpus

SIZE, HOP, BANDS, HIDDEN = 2048, 1024, 96, 96
STAGES = (60, 400)
SECONDS, BATCH, RATE, SEED = 2, 8, 2e-3, 9


class RecurrentMasks(nn.Module):
    """(batch, bins, frames) magnitudes to (batch, stems, bins, frames) masks that sum to one."""

    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=SIZE, n_mels=BANDS, norm=None)
        filters[0, :2] = 1.0  # the lowest bins belong to the first band
        filters[-1, -8:] = 1.0
        self.register_buffer("bands", torch.from_numpy(filters), persistent=False)
        self.memory = nn.GRU(BANDS, HIDDEN, num_layers=2, batch_first=True, bidirectional=True)
        self.shares = nn.Linear(2 * HIDDEN, BANDS * len(STEMS))

    def forward(self, magnitude: Tensor) -> Tensor:
        heard = torch.log1p(50 * self.bands @ magnitude).transpose(1, 2)
        shares = self.shares(self.memory(heard)[0])
        shares = shares.unflatten(-1, (len(STEMS), BANDS)).softmax(dim=2)
        weights = self.bands / (self.bands.sum(dim=0) + 1e-6)
        masks: Tensor = (shares @ weights).permute(0, 2, 3, 1)
        return masks


def transform(audio: Tensor) -> Tensor:
    """(…, samples) to (…, bins, frames)."""
    flat = audio.reshape(-1, audio.shape[-1])
    bins = torch.stft(flat, SIZE, HOP, window=torch.hann_window(SIZE), return_complex=True)
    return bins.reshape(*audio.shape[:-1], *bins.shape[-2:])


@torch.no_grad()
def separate_recurrent(network: RecurrentMasks, mixture: Audio) -> dict[str, Audio]:
    """The four stems of a mixture (2, samples)."""
    audio = torch.from_numpy(mixture).float()
    bins = transform(audio)
    masks = network(bins.abs().mean(dim=0)[None])[0]
    window, samples = torch.hann_window(SIZE), audio.shape[-1]
    found = torch.istft((bins[None] * masks[:, None]).flatten(0, 1), SIZE, HOP, window=window,
                        length=samples)  # fmt: skip
    stems = found.reshape(len(STEMS), 2, samples).numpy().astype(float)
    return dict(zip(STEMS, stems, strict=True))


def load_recurrent(path: Path) -> RecurrentMasks:
    """A trained network, ready to separate."""
    network = RecurrentMasks()
    network.load_state_dict(load_file(path))
    network.eval()
    return network


def train(data: Path, out: Path) -> None:
    """Least absolute error of the masked magnitudes, and a checkpoint at each stage."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    network = RecurrentMasks()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    corpus, start = Corpus(data, SEED), time.monotonic()
    for step in range(1, STAGES[-1] + 1):
        stems = transform(corpus.batch(BATCH, SECONDS * SAMPLE_RATE).mean(dim=2))
        mixture = stems.sum(dim=1).abs()
        loss = (network(mixture) * mixture[:, None] - stems.abs()).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0:
            print(f"{time.monotonic() - start:.0f} s, step {step}, loss {float(loss):.4f}",
                  flush=True)  # fmt: skip
        if step in STAGES:
            path = out / f"recurrent_{step:05d}.safetensors"
            state = {name: value.contiguous() for name, value in network.state_dict().items()}
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
