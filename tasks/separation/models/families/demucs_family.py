"""Models of demucs: HTDemucs, HDemucs and Demucs, bags of them, and the embedded model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from tasks.contracts import STEMS, LocalOptions
from tasks.errors import SettingsError, SourceMissing, WeightsRefused, from_os_error
from tasks.separation.models import hub
from tasks.separation.models.checkpoints import convert, safetensors_of
from tasks.separation.models.demucs_files import (
    Bag,
    describe,
    is_published,
    published_bag,
    read_bag,
    read_network,
    signature_of,
)
from tasks.separation.models.digests import sha256_of
from tasks.separation.models.family import Located, ModelFamily, OnProgress
from tasks.separation.models.spec import EMBEDDED, KnownModel, ModelSpec, Origin

if TYPE_CHECKING:
    from tasks.separation.on_device import DeviceSeparator

EMBEDDED_DIR = Path(__file__).parents[1] / "embedded"
_NAMESPACE = "adefossez"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_HT = "Rouard, Massa, Défossez: Hybrid Transformers for Music Source Separation, 2022"
_LEAK = "trained on MUSDB's test set too, so no comparable figure"
_MB = 1_000_000
_ALL = (
    KnownModel(
        EMBEDDED,
        "Small HTDemucs that comes with Stemwright: shows the pipeline, isn't for music.",
        sdr_source="trained on synthetic music; its card has its figures",
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
    ),
    KnownModel(
        "mdx_extra_q",
        "mdx_extra, quantized: a smaller download, slightly worse.",
        sdr_source=_LEAK,
        size_bytes=168 * _MB,
    ),
)
_KNOWN = {model.name: model for model in _ALL}


class DemucsFamily(ModelFamily):
    """What demucs published, and whatever a models folder holds in the same form."""

    name: ClassVar[str] = "demucs"
    known: ClassVar[Mapping[str, KnownModel]] = _KNOWN
    can_be_tuned: ClassVar[bool] = True

    def names_in(self, folder: Path) -> list[str]:
        found = (path.stem for path in folder.glob("*.yaml"))
        return sorted(name for name in found if _NAME.fullmatch(name))

    def locate(self, name: str, folder: Path | None) -> Located | None:
        own = _in_folder(name, folder) if folder else None
        if own and not own.missing:
            return own
        if name == EMBEDDED:
            return _in_folder(name, EMBEDDED_DIR, "embedded") or _nowhere(name)
        cached = _in_hub_cache(name) if name in _KNOWN else None
        if cached and not cached.missing:
            return cached
        return own or (_nowhere(name) if name in _KNOWN else None)

    def sources(self, name: str, located: Located) -> tuple[str, ...]:
        if located.files[0].suffix == ".safetensors":
            return read_network(located.files[0]).sources
        return _KNOWN[name].stems if name in _KNOWN else ()  # it's converted when it is used

    def describe(self, name: str, located: Located) -> ModelSpec:
        try:
            weights = tuple(safetensors_of(path) for path in located.files)
            digests = [sha256_of(path) for path in weights]
        except OSError as error:
            raise from_os_error(error) from error
        return describe(
            name, located.plan, weights, digests, origin=located.origin, known=_KNOWN.get(name)
        )

    def fetch(self, name: str, located: Located, on_progress: OnProgress) -> None:
        repo = repo_of(name)
        listed = hub.fetch_file(repo, f"{name}.yaml", on_progress)
        for signature in dict.fromkeys(read_bag(listed).models):
            hub.fetch_file(repo, f"{signature}.safetensors", on_progress)

    def published_sha256(self, spec: ModelSpec, file: Path) -> str:
        return hub.promised_digest(file)

    def make_engine(
        self, spec: ModelSpec, *, device: str, options: LocalOptions | None = None, **common: Any
    ) -> DeviceSeparator:
        from tasks.separation.local.separator import LocalSeparator

        return LocalSeparator(spec, device=device, options=options, **common)


def repo_of(name: str) -> str:
    """Return where demucs publishes a model, as `demucs.hf.hf_repo_name` has it (needs torch)."""
    if name == "htdemucs":
        return f"{_NAMESPACE}/HTDemucs"
    if name.startswith("htdemucs_"):
        return f"{_NAMESPACE}/HTDemucs-{name.removeprefix('htdemucs_')}"
    return f"{_NAMESPACE}/Demucs-{name}"


def _bag_of(name: str) -> Bag | None:
    return published_bag(name) if name in _KNOWN and name != EMBEDDED else None


def _located(
    name: str, files: tuple[Path, ...], missing: tuple[str, ...], origin: Origin, plan: Bag | None
) -> Located:
    if name == EMBEDDED:
        return Located(
            files, missing, origin, stuck="the embedded model's files are gone", plan=plan
        )
    if name in _KNOWN:
        return Located(files, missing, origin, repos=(repo_of(name),), plan=plan)
    stuck = f"{name}.yaml names files that aren't there"
    return Located(files, missing, origin, stuck=stuck, plan=plan)


def _nowhere(name: str) -> Located:
    bag = _bag_of(name)
    weights = (f"{sig}.safetensors" for sig in bag.models) if bag else (f"{name}.safetensors",)
    missing = tuple(dict.fromkeys((f"{name}.yaml", *weights)))
    return _located(name, (), missing, "hub", bag)


def _in_folder(name: str, folder: Path, origin: Origin = "folder") -> Located | None:
    listed = folder / f"{name}.yaml"
    bag = read_bag(listed) if listed.is_file() else _bag_of(name)
    if bag is None:
        return None
    wanted = [_weights_in(folder, signature, name) for signature in bag.models]
    missing = tuple(dict.fromkeys(path.name for path in wanted if not path.is_file()))
    if missing and not listed.is_file():
        missing = (listed.name, *missing)
    return _located(name, tuple(wanted), missing, origin, bag)


def _weights_in(folder: Path, signature: str, name: str) -> Path:
    """Return a sub-model's file; where there is no safetensors, demucs' own checkpoint.

    Raises:
        WeightsRefused: There is a checkpoint only, and demucs didn't publish it.
    """
    weights = folder / f"{signature}.safetensors"
    pickles = [*folder.glob(f"{signature}.th"), *folder.glob(f"{signature}-*.th")]
    if weights.is_file() or not pickles:
        return weights
    for path in pickles:
        if is_published(path):
            return path
    raise WeightsRefused(
        f"{pickles[0]} is a pickled checkpoint that demucs didn't publish: opening one runs "
        "whatever code is in it.",
        remedy=f"If you trust where it came from: `stemwright models import {pickles[0]} "
        f"--name {name} --trust`.",
    )


def _in_hub_cache(name: str) -> Located | None:
    repo = repo_of(name)
    listed = hub.cached_file(repo, f"{name}.yaml")
    if listed is None:
        return None
    bag = read_bag(listed)
    names = [f"{signature}.safetensors" for signature in bag.models]
    paths = {each: hub.cached_file(repo, each) for each in names}
    missing = tuple(each for each, path in paths.items() if path is None)
    here = tuple(path for each in names if (path := paths[each]) is not None)
    return _located(name, here, missing, "hub", bag)


def import_checkpoint(
    path: Path, models_dir: Path, name: str | None = None, *, trust: bool = False
) -> Path:
    """Convert `SIG.th` or `SIG-xxxxxxxx.th` to `SIG.safetensors` and `NAME.yaml` in `models_dir`.

    A checkpoint is a pickle: opening it runs its code. Without `trust` it is opened only if its
    SHA-256 is one that demucs publishes, and then without running anything that isn't a demucs
    checkpoint's: demucs publishes but eight digits of each, which can be forged.

    Args:
        path: The checkpoint.
        models_dir: Where the model goes; made if needed.
        name: The model's name; by default the released model that it belongs to, else SIG.
        trust: The user vouches for the file.

    Returns:
        The safetensors file.

    Raises:
        SourceMissing: No such file.
        WeightsRefused: Nobody vouches for it, or it holds no demucs model.
        SettingsError: The name is taken by another model in that folder.
    """
    if not path.is_file():
        raise SourceMissing(f"there is no file at {path}.")
    signature = signature_of(path)
    if not (trust or is_published(path)):
        raise WeightsRefused(
            f"{path.name} is a pickled checkpoint and isn't one that demucs published.",
            remedy="If you trust where it came from, add --trust: opening it runs its code.",
        )
    name = name or _released_as(signature) or signature
    bag = _bag_for(name, signature, models_dir)
    target = models_dir / f"{signature}.safetensors"
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        convert(path, target, trust=trust)
        listing = models_dir / f"{name}.yaml"
        listing.write_text(
            yaml.safe_dump(bag.model_dump(mode="json", exclude_none=True), sort_keys=False)
        )
    except OSError as error:
        raise from_os_error(error) from error
    read_network(target)
    return target


def _released_as(signature: str) -> str | None:
    owners = [name for name in _KNOWN if (bag := published_bag(name)) and signature in bag.models]
    return owners[0] if len(owners) == 1 else None


def _bag_for(name: str, signature: str, models_dir: Path) -> Bag:
    listing = models_dir / f"{name}.yaml"
    bag = read_bag(listing) if listing.is_file() else _bag_of(name) or Bag(models=(signature,))
    if signature not in bag.models:
        raise SettingsError(
            f"{name} is made of {', '.join(bag.models)}, and {signature} is none of them.",
            remedy="Give another --name.",
        )
    return bag
