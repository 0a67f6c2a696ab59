"""Full-size HTDemucs with random weights, and music: `python -m tests.benchmarks.full_size`.

Speed doesn't depend on what the weights are, so benchmarks of separation need no download. Each
model is made once, in the form that stock demucs' `--repo` reads (`SIG.th`) and in ours
(`SIG.safetensors`), with the same tensors in both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from tests.benchmarks.results import ROOT

BUILD = ROOT / "build" / "benchmark"
MODELS = BUILD / "models"
STEMS = ("drums", "bass", "other", "vocals")
RATE = 44_100

# The constructor's arguments of the released `htdemucs` (signature 955717e8), where they matter
# to inference: 41,984,456 parameters, which stored as fp16 are its 84 MB.
RELEASED: dict[str, Any] = {
    "sources": list(STEMS),
    "audio_channels": 2,
    "samplerate": RATE,
    "segment": Fraction(39, 5),
    "channels": 48,
    "growth": 2,
    "nfft": 4096,
    "depth": 4,
    "cac": True,
    "multi_freqs": [],
    "dconv_mode": 3,
    "dconv_depth": 2,
    "dconv_comp": 8,
    "bottom_channels": 512,
    "t_layers": 5,
    "t_heads": 8,
    "t_hidden_scale": 4.0,
}

# Name to the seeds of its sub-models; with several, each has one stem to itself.
RANDOM = {"random_htdemucs": (1,), "random_htdemucs_ft": (11, 12, 13, 14)}
EMBEDDED = "embedded"
_LEVEL = 0.1  # RMS of the music: low enough that no stem of a random network clips


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for what a benchmark writes, gone at its end."""
    BUILD.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=BUILD)


def ready(model: str) -> Path:
    """The folder that has the model in both forms; made by a process of its own when absent.

    Its own, because a child's peak memory can't be told apart from its parent's at the fork
    (`child.measure`): a benchmark's process never loads torch.
    """
    if not (MODELS / f"{model}.yaml").exists():
        subprocess.run([sys.executable, "-m", __name__, model], cwd=ROOT, check=True)
    return MODELS


def music(seconds: float, suffix: str = ".wav") -> Path:
    """A track of the bundled pieces' passages, always the same; float WAV, or 24-bit FLAC.

    Float, because `audio-separator` writes stems at its input's depth, and stems of 16 bits
    can't be told apart beyond some 90 dB.
    """
    path = BUILD / "music" / f"{seconds:g}s{suffix}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".part-{path.name}")
        make_music(part, seconds)
        part.replace(path)
    return path


def make_music(path: Path, seconds: float, seed: int = 3) -> None:
    """Passages of 2 to 8 s from anywhere in the bundled pieces, each at its own level."""
    rng = np.random.default_rng(seed)
    folder = ROOT / "tasks" / "sources" / "bundled"
    pieces = [soundfile.read(each)[0] for each in sorted(folder.glob("*/mixture.flac"))]
    pieces = [piece * (_LEVEL / np.sqrt(np.mean(piece**2))) for piece in pieces]
    left = round(seconds * RATE)
    subtype = "FLOAT" if path.suffix == ".wav" else "PCM_24"
    with soundfile.SoundFile(path, "w", RATE, 2, subtype=subtype) as file:
        while left:
            piece = pieces[rng.integers(len(pieces))]
            length = min(left, int(rng.integers(2 * RATE, 8 * RATE)))
            start = int(rng.integers(0, len(piece) - length))
            passage = piece[start : start + length] * 10 ** rng.uniform(-0.3, 0)
            # Without an offset, which demucs gives back to every stem and we give back once.
            file.write(passage - passage.mean())
            left -= length


def random_network(seed: int) -> Any:
    """The released architecture, untrained.

    Residual branches start at a ten-thousandth of their strength and learn their scale; left
    there, an error in the transformer would hardly reach the output and every precision would
    look exact. So the scales are drawn from what training makes of them.
    """
    import torch
    from demucs.htdemucs import HTDemucs

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = HTDemucs(**RELEASED).eval()
        for module in network.modules():
            if type(module).__name__ == "LayerScale":
                module.scale.data.uniform_(0.05, 0.5)
    return network


def write_network(network: Any, signature: str, folder: Path) -> None:
    """`SIG.th` and `SIG.safetensors` of one network, its tensors as fp16 as released ones are."""
    import torch
    from safetensors.torch import save_file

    args, kwargs = network._init_args_kwargs
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    package = {"klass": type(network), "args": args, "kwargs": kwargs, "state": state}
    torch.save(package, folder / f"{signature}.th")
    metadata = {
        "klass": f"{type(network).__module__}.{type(network).__qualname__}",
        "args": json.dumps(args),
        "kwargs": json.dumps(kwargs, default=_fraction),
    }
    save_file(state, folder / f"{signature}.safetensors", metadata=metadata)


def make_model(name: str, folder: Path = MODELS) -> None:
    """Write a model of `RANDOM`, or the embedded one; `NAME.yaml` comes last.

    Raises:
        KeyError: It is neither.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if name == EMBEDDED:
        bag = _write_embedded(folder)
    else:
        bag = {"models": [f"random{seed:02d}" for seed in RANDOM[name]]}
        for seed, signature in zip(RANDOM[name], bag["models"], strict=True):
            write_network(random_network(seed), signature, folder)
        if len(bag["models"]) == len(STEMS):
            bag["weights"] = np.eye(len(STEMS)).tolist()
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(bag))


def _write_embedded(folder: Path) -> dict[str, Any]:
    from demucs.hf import load_safetensors_model

    from tasks.separation.models import EMBEDDED_DIR

    bag: dict[str, Any] = yaml.safe_load((EMBEDDED_DIR / f"{EMBEDDED}.yaml").read_text())
    for signature in bag["models"]:
        network = load_safetensors_model(EMBEDDED_DIR / f"{signature}.safetensors")
        write_network(network, signature, folder)
    return bag


def _fraction(value: object) -> dict[str, object]:
    if isinstance(value, Fraction):
        named = {"numerator": value.numerator, "denominator": value.denominator}
        return {"_type": "fraction", **named}
    raise TypeError(f"{value!r} has no JSON form")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [*RANDOM, EMBEDDED]
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(names)}")
    for name in parser.parse_args().models or names:
        make_model(name)


if __name__ == "__main__":
    main()
