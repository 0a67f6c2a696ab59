"""The models that have a name: what they separate, how well, and under which licence."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.contracts import STEMS
from tasks.errors import UnknownModel
from tasks.separation.models.spec import Bag, read_bag

EMBEDDED = "embedded"
HUB_NAMESPACE = "adefossez"

_HT = "Rouard, Massa, Défossez: Hybrid Transformers for Music Source Separation, 2022"
_LEAK = "trained on MUSDB's test set too, so no comparable figure"


@dataclass(frozen=True)
class KnownModel:
    """A named model.

    `published_sdr_db` is the mean SDR over its stems (of six, over vocals, drums, bass and other)
    on MUSDB18-HQ's test set as published (`sdr_source` says where, or why there is none).
    `size_bytes` is about what a fetch downloads; 0 for what comes with the package.
    """

    name: str
    description: str
    stems: tuple[str, ...] = STEMS
    published_sdr_db: float | None = None
    sdr_source: str = ""
    licence: str = "MIT"
    size_bytes: int = 0
    embedded: bool = False
    needs: str = ""

    @property
    def hub_repo(self) -> str:
        """Where demucs publishes it, as `demucs.hf.hf_repo_name` has it (that one needs torch)."""
        if self.name == "htdemucs":
            return f"{HUB_NAMESPACE}/HTDemucs"
        if self.name.startswith("htdemucs_"):
            return f"{HUB_NAMESPACE}/HTDemucs-{self.name.removeprefix('htdemucs_')}"
        return f"{HUB_NAMESPACE}/Demucs-{self.name}"

    @property
    def bag(self) -> Bag | None:
        """Its sub-models as demucs lists them; None for the embedded model."""
        return None if self.embedded else _published_bag(self.name)


_MB = 1_000_000
_ALL = (
    KnownModel(
        EMBEDDED,
        "Small HTDemucs that comes with Stemwright: shows the pipeline, isn't for music.",
        sdr_source="trained on synthetic music; its card has its figures",
        embedded=True,
    ),
    KnownModel(
        "htdemucs",
        "Hybrid Transformer Demucs, trained on MUSDB and 800 more songs. The default.",
        published_sdr_db=8.80,
        sdr_source=_HT,
        size_bytes=84 * _MB,
    ),
    KnownModel(
        "htdemucs_ft",
        "htdemucs fine-tuned for each stem: a little better, four times slower.",
        published_sdr_db=9.00,
        sdr_source=_HT,
        size_bytes=336 * _MB,
    ),
    KnownModel(
        "htdemucs_6s",
        "htdemucs with guitar and piano too; the piano stem is weak.",
        stems=(*STEMS, "guitar", "piano"),
        sdr_source="not published for six stems",
        size_bytes=55 * _MB,
    ),
    KnownModel(
        "hdemucs_mmi",
        "Hybrid Demucs v3, retrained on MUSDB and 800 more songs.",
        published_sdr_db=8.34,
        sdr_source=_HT,
        size_bytes=168 * _MB,
    ),
    KnownModel(
        "mdx",
        "Four v3 models trained on MUSDB alone; won track A of the 2021 MDX challenge.",
        sdr_source="not published for these four; one v3 model trained likewise has 7.7 dB",
        size_bytes=691 * _MB,
    ),
    KnownModel(
        "mdx_extra",
        "Four v3 models trained with extra data; track B of the 2021 MDX challenge.",
        sdr_source=_LEAK,
        size_bytes=670 * _MB,
    ),
    KnownModel(
        "mdx_q",
        "mdx, quantized: a smaller download, slightly worse.",
        sdr_source="not published",
        size_bytes=209 * _MB,
        needs="diffq",
    ),
    KnownModel(
        "mdx_extra_q",
        "mdx_extra, quantized: a smaller download, slightly worse.",
        sdr_source=_LEAK,
        size_bytes=168 * _MB,
        needs="diffq",
    ),
)
KNOWN_MODELS = {model.name: model for model in _ALL}


def unknown(name: str, others: Iterable[str] = ()) -> UnknownModel:
    """The error for a name that is nobody's, with the nearest names in its sentence."""
    names = sorted({*KNOWN_MODELS, *others})
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; near are {', '.join(near)}" if near else f"; there are {', '.join(names)}"
    return UnknownModel(f"there is no model named {name[:80]!r}{hint}.")


@cache
def _demucs_remote() -> Path | None:
    # The package's own lists of files; importing demucs.pretrained to read them would load torch.
    found = importlib.util.find_spec("demucs")
    return Path(found.origin).parent / "remote" if found and found.origin else None


@cache
def _published_bag(name: str) -> Bag | None:
    remote = _demucs_remote()
    listed = remote / f"{name}.yaml" if remote else None
    return read_bag(listed) if listed and listed.is_file() else None


@cache
def published_checkpoints() -> dict[str, str]:
    """Demucs' own pickled checkpoints: signature to the first hex digits of its SHA-256."""
    remote = _demucs_remote()
    listing = remote / "files.txt" if remote else None
    if not listing or not listing.is_file():
        return {}
    lines = (line.strip() for line in listing.read_text().splitlines())
    stems = (line.removesuffix(".th") for line in lines if line.endswith(".th"))
    return dict(stem.split("-", 1) for stem in stems if "-" in stem)
