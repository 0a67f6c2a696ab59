"""A tiny HTDemucs with random weights, in the form that `INTERFACES.md` section 7 asks for.

It separates nothing, but it is the real network: what it computes, how long it takes and which
errors it can meet are those of the released models, at a hundredth of the cost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.contracts import STEMS

SHAPE = {
    "channels": 8,
    "growth": 2,
    "depth": 4,
    "bottom_channels": 0,
    "t_layers": 1,
    "t_heads": 4,
    "cac": True,
}


def make_tiny_model(
    folder: Path,
    name: str = "tiny",
    seed: int = 0,
    sources: Sequence[str] = STEMS,
    *,
    segment_s: tuple[int, int] = (1, 2),
    members: int = 1,
    weights: Sequence[Sequence[float]] | None = None,
) -> Path:
    """Write `NAME.yaml` and its `SIG.safetensors` into `folder`; returns the folder.

    Args:
        segment_s: One segment in seconds, as numerator and denominator.
        members: How many sub-models the bag has.
        weights: A row for each sub-model, a weight for each stem.
    """
    import yaml
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    segment = {"_type": "fraction", "numerator": segment_s[0], "denominator": segment_s[1]}
    kwargs = {"sources": list(sources), **SHAPE, "segment": segment}
    signatures = [f"{name}{seed + member:04d}" for member in range(members)]
    for member, signature in enumerate(signatures):
        save_file(
            tiny_network(seed + member, sources, segment_s).state_dict(),
            folder / f"{signature}.safetensors",
            metadata={
                "klass": "demucs.htdemucs.HTDemucs",
                "args": json.dumps([]),
                "kwargs": json.dumps(kwargs),
            },
        )
    bag: dict[str, object] = {"models": signatures}
    if weights is not None:
        bag["weights"] = [list(row) for row in weights]
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(bag))
    return folder


def tiny_network(
    seed: int = 0, sources: Sequence[str] = STEMS, segment_s: tuple[int, int] = (1, 2)
) -> Any:
    """The network itself, its weights drawn from `seed` alone."""
    from fractions import Fraction

    import torch
    from demucs.htdemucs import HTDemucs

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HTDemucs(sources=list(sources), **SHAPE, segment=Fraction(*segment_s)).eval()
