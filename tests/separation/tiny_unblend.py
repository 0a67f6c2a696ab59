"""A registry like unblend's, of tiny networks with random weights that the library itself builds.

They separate nothing, but they are its real networks, which it loads and runs as it does its own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from tests.separation.loopback_hub import COMMIT

SEGMENT = 22_050
_FOUR = ["drums", "bass", "other", "vocals"]
_ROFORMER = {
    "dim": 16,
    "depth": 1,
    "stereo": True,
    "num_stems": 1,
    "time_transformer_depth": 1,
    "freq_transformer_depth": 1,
    "dim_head": 8,
    "heads": 2,
    "stft_n_fft": 2048,
    "stft_hop_length": 512,
    "stft_win_length": 2048,
    "mask_estimator_depth": 1,
    "mlp_expansion_factor": 1,
}
_SCNET = {
    "audio_channels": 2,
    "dims": [4, 8, 8, 8],
    "nfft": 1024,
    "hop_size": 256,
    "win_size": 1024,
    "normalized": True,
    "band_SR": [0.175, 0.392, 0.433],
    "band_stride": [1, 4, 16],
    "band_kernel": [3, 4, 16],
    "conv_depths": [1, 1, 1],
    "compress": 4,
    "conv_kernel": 3,
    "num_dplayer": 2,
    "expand": 1,
}
_HTDEMUCS = {
    "sources": _FOUR,
    "audio_channels": 2,
    "samplerate": 44_100,
    "segment": 0.5,
    "channels": 8,
    "growth": 2,
    "depth": 4,
    "bottom_channels": 0,
    "t_layers": 1,
    "t_heads": 4,
    "cac": True,
}
_MEL = {key: value for key, value in _ROFORMER.items() if key != "stft_hop_length"} | {
    "num_bands": 60,
    "sample_rate": 44_100,
    "stft_hop_length": 441,
}
NETWORKS: dict[str, tuple[str, list[str], dict[str, Any], int]] = {
    "bs_roformer_anvuew": ("bs_roformer", ["vocals", "other"], _ROFORMER, SEGMENT),
    "melband_roformer_kim": ("mel_band_roformer", ["vocals", "other"], _MEL, 2 * SEGMENT),
    "scnet_small": ("scnet_masked", _FOUR, _SCNET, SEGMENT),
    "scnet_xl_wide_v5": ("scnet", _FOUR, _SCNET, SEGMENT),
    "htdemucs": ("htdemucs", _FOUR, _HTDEMUCS, 0),
}
ENSEMBLES = {
    "roformer_vocals_ensemble": ["melband_roformer_kim", "bs_roformer_anvuew"],
    "htdemucs_scnet_ensemble": ["htdemucs", "scnet_xl_wide_v5"],
}


def make_registry(folder: Path, weights: Path) -> Path:
    """Write `metadata.yaml` into `folder` and its networks' weights into `weights`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.mkdir(parents=True, exist_ok=True)
    models = {name: _entry(name, weights) for name in NETWORKS}
    for name, members in ENSEMBLES.items():
        models[name] = {
            "license": "mixed",
            "provenance": "of a test",
            "sources": models[members[0]]["sources"],
            "combine": "weighted_mean",
            "members": [{"model": member} for member in members],
        }
    file = folder / "metadata.yaml"
    file.write_text(yaml.safe_dump({"models": models}, sort_keys=False))
    return file


def _entry(name: str, weights: Path) -> dict[str, Any]:
    from safetensors.torch import save_file

    architecture, sources, config, segment = NETWORKS[name]
    file = weights / f"{name}.safetensors"
    save_file(_state(name), file)
    body = file.read_bytes()
    entry = {
        "architecture": architecture,
        "license": "none",
        "provenance": "of a test",
        "sources": sources,
        "config": config,
        "checkpoint": {
            "format": "safetensors",
            "url": f"https://huggingface.co/Somebody/tiny/resolve/{COMMIT}/{name}.safetensors",
            "sha256": hashlib.sha256(body).hexdigest(),
            "size_bytes": len(body),
        },
    }
    return entry | ({"samplerate": 44_100, "segment_samples": segment} if segment else {})


def _state(name: str) -> dict[str, Any]:
    import torch

    from tasks.separation.unblend.adapter import library

    library()
    from unblend import backends
    from unblend.htdemucs import HTDemucs

    architecture, sources, config, segment = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sorted(NETWORKS).index(name))
        if architecture == "htdemucs":
            network = HTDemucs(**config)
        else:
            network = backends.build(
                backends.backend_for_architecture(architecture) or "",
                architecture,
                dict(config),
                sources=sources,
                samplerate=44_100,
                segment_samples=segment,
            )
    return {key: tensor.clone().contiguous() for key, tensor in network.state_dict().items()}
