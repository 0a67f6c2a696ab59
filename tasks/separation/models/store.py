"""Finding a model's files: the models folder, the embedded model, the hub's cache, the hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts import Value
from tasks.errors import StemwrightError, WeightsMissing, WeightsRefused, from_os_error
from tasks.separation.models import hub, unblend_weights
from tasks.separation.models.digests import sha256_of
from tasks.separation.models.published import is_published, safetensors_of
from tasks.separation.models.registry import EMBEDDED, KNOWN_MODELS, KnownModel, unknown
from tasks.separation.models.spec import (
    Bag,
    Family,
    ModelSpec,
    Origin,
    describe,
    read_bag,
    read_network,
)
from tasks.separation.models.transfer import Told
from tasks.separation.models.unblend_registry import EXTRA, UNBLEND_MODELS, is_installed

EMBEDDED_DIR = Path(__file__).with_name("embedded")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class ModelEntry(Value):
    """A line of `models list`: a model, whether its weights are here, and what is missing.

    `needs` says how to install the library that runs it, where that isn't there.
    """

    name: str
    description: str
    stems: tuple[str, ...]
    present: bool
    where: str = ""
    missing: tuple[str, ...] = ()
    problem: str = ""
    licence: str = ""
    family: Family = "demucs"
    needs: str = ""
    size_bytes: int = 0
    published_sdr_db: float | None = None
    sdr_source: str = ""


class Verification(Value):
    """What reading a model's files through showed; `problems` is empty when all is well."""

    name: str
    files: dict[str, str]
    problems: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class _Found:
    """A bag and where its files are; `missing` names those that aren't."""

    bag: Bag
    weights: tuple[Path, ...]
    missing: tuple[str, ...]
    origin: Origin
    where: str


def models_folder(models_dir: Path | None = None) -> Path | None:
    """The folder of the user's own models: the argument, else `STEMWRIGHT_MODELS`."""
    named = os.environ.get("STEMWRIGHT_MODELS")
    return models_dir or (Path(named) if named else None)


def find_model(
    name: str,
    *,
    models_dir: Path | None = None,
    offline: bool = False,
    told: Told | None = None,
) -> ModelSpec:
    """Find a model's weights, fetching them if they are nowhere and `offline` is off.

    Looks in the models folder, the embedded model, the hub's cache, the hub, in that order; reads
    headers and hashes only. A checkpoint that demucs published is converted the first time.

    Args:
        name: As `models list` has it.
        models_dir: The user's own models; by default `STEMWRIGHT_MODELS`.
        offline: Never ask the hub.
        told: Told of every piece of a fetch; without it the log is.

    Raises:
        UnknownModel: No model of that name; the nearest names are given.
        LibraryMissing: A model of the second family, and `unblend` isn't installed.
        WeightsMissing: Not on this machine, and not to be had from the hub.
        WeightsRefused: A pickle that demucs didn't publish, damaged, or not what demucs writes.
        HubUnreachable, NetworkError, ProtocolError, DiskFull: The fetch.
    """
    folder = models_folder(models_dir)
    if not _NAME.fullmatch(name):
        raise _unknown(name, folder)
    found = _locate(name, folder)
    if found and not found.missing:
        return _describe(name, found)
    known = KNOWN_MODELS.get(name)
    if known is None:
        if found is None and name in UNBLEND_MODELS:
            return unblend_weights.find(name, folder, offline=offline, told=told)
        if found is None:
            raise _unknown(name, folder)
        raise _missing(
            name, found.missing, folder, why=f"{name}.yaml names files that aren't there"
        )
    if known.embedded or offline or hub.is_offline():
        why = "the embedded model's files are gone" if known.embedded else "offline"
        raise _missing(name, _missing_files(known, found), folder, why=why)
    try:
        hub.fetch(name, told=told)
    except hub.HubUnreachable as error:
        raise _missing(name, _missing_files(known, found), folder, why=str(error)) from error
    fetched = _in_hub_cache(known)
    if fetched is None or fetched.missing:
        raise _missing(name, _missing_files(known, fetched), folder, why="the hub lacks them")
    return _describe(name, fetched)


def list_models(models_dir: Path | None = None) -> list[ModelEntry]:
    """Every known model and every one in the models folder; no network, no hashing."""
    folder = models_folder(models_dir)
    own = [name for name in _names_in(folder) if name not in KNOWN_MODELS]
    second = [name for name in UNBLEND_MODELS if name not in own]
    return [
        *(_entry(name, folder) for name in (*KNOWN_MODELS, *own)),
        *(_second_family_entry(name, folder) for name in second),
    ]


def verify(name: str, *, models_dir: Path | None = None) -> Verification:
    """Read a model's files through: sound headers, digests, and the hub's own digests.

    Raises:
        UnknownModel, WeightsMissing: As `find_model`, which is asked to stay offline.
    """
    try:
        spec = find_model(name, models_dir=models_dir, offline=True)
    except WeightsRefused as error:
        return Verification(name=name, files={}, problems=(str(error),))
    digests = {str(path): sha256_of(path, fresh=True) for path in spec.weights}
    problems = tuple(
        f"{path} has the SHA-256 {digest[:12]}…, published is {promised[:12]}…."
        for path, digest in digests.items()
        if (promised := _promised(spec, Path(path))) and promised != digest
    )
    return Verification(name=name, files=digests, problems=problems)


def _promised(spec: ModelSpec, path: Path) -> str:
    if spec.family == "unblend":
        return unblend_weights.promised_digest(spec.name, path)
    return hub.promised_digest(path)


def _unknown(name: str, folder: Path | None) -> StemwrightError:
    return unknown(name, (*_names_in(folder), *UNBLEND_MODELS))


def _locate(name: str, folder: Path | None) -> _Found | None:
    known = KNOWN_MODELS.get(name)
    in_folder = _in_folder(name, folder, known)
    if in_folder and not in_folder.missing:
        return in_folder
    if name == EMBEDDED:
        return _in_folder(name, EMBEDDED_DIR, known, origin="embedded") or in_folder
    cached = _in_hub_cache(known) if known else None
    return cached if cached and not cached.missing else in_folder


def _in_folder(
    name: str, folder: Path | None, known: KnownModel | None, origin: Origin = "folder"
) -> _Found | None:
    if folder is None:
        return None
    listed = folder / f"{name}.yaml"
    bag = read_bag(listed) if listed.is_file() else (known.bag if known else None)
    if bag is None:
        return None
    wanted = [_weights_in(folder, signature, name) for signature in bag.models]
    missing = tuple(dict.fromkeys(path.name for path in wanted if not path.is_file()))
    if missing and not listed.is_file():
        missing = (listed.name, *missing)
    return _Found(bag, tuple(wanted), missing, origin, str(folder))


def _weights_in(folder: Path, signature: str, name: str) -> Path:
    """A sub-model's file; only where there is no safetensors, the checkpoint that demucs published.

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


def _in_hub_cache(known: KnownModel) -> _Found | None:
    if known.embedded:
        return None
    listed = hub.cached_file(known.hub_repo, f"{known.name}.yaml")
    bag = read_bag(listed) if listed else None
    if bag is None or listed is None:
        return None
    paths = [hub.cached_file(known.hub_repo, f"{sig}.safetensors") for sig in bag.models]
    names = [f"{sig}.safetensors" for sig in bag.models]
    missing = tuple(name for name, path in zip(names, paths, strict=True) if path is None)
    here = tuple(path for path in paths if path is not None)
    return _Found(bag, here, missing, "hub", str(listed.parent))


def _describe(name: str, found: _Found) -> ModelSpec:
    known = KNOWN_MODELS.get(name)
    try:
        weights = tuple(safetensors_of(path) for path in found.weights)
        digests = [sha256_of(path) for path in weights]
    except OSError as error:
        raise from_os_error(error) from error
    return describe(
        name,
        found.bag,
        weights,
        digests,
        origin=found.origin,
        licence=known.licence if known else "",
        published_sdr_db=known.published_sdr_db if known else None,
    )


def _missing_files(known: KnownModel, found: _Found | None) -> tuple[str, ...]:
    if found and found.missing:
        return found.missing
    bag = known.bag
    weights = (f"{sig}.safetensors" for sig in bag.models) if bag else ("embedded.safetensors",)
    return tuple(dict.fromkeys((f"{known.name}.yaml", *weights)))


def _missing(name: str, files: tuple[str, ...], folder: Path | None, *, why: str) -> WeightsMissing:
    place = str(folder) if folder else "a folder named by --models-dir or STEMWRIGHT_MODELS"
    known = KNOWN_MODELS.get(name)
    source = f" from huggingface.co/{known.hub_repo}" if known and not known.embedded else ""
    escape = " The model `embedded` needs no files." if name != EMBEDDED else ""
    return WeightsMissing(
        f"the weights of {name} aren't on this machine ({why}): {', '.join(files)}.",
        remedy=f"Put {'it' if len(files) == 1 else 'them'}{source} in {place}, or run "
        f"`stemwright models fetch {name}` with a network.{escape}",
    )


def _names_in(folder: Path | None) -> list[str]:
    if folder is None or not folder.is_dir():
        return []
    return sorted(path.stem for path in folder.glob("*.yaml") if _NAME.fullmatch(path.stem))


def _entry(name: str, folder: Path | None) -> ModelEntry:
    known = KNOWN_MODELS.get(name) or KnownModel(name, "From the models folder.", (), licence="")
    found, problem, stems, size = None, "", known.stems, known.size_bytes
    try:
        found = _locate(name, folder)
        if found and not found.missing:
            if found.weights[0].suffix == ".safetensors":  # else it's converted when it is used
                stems = read_network(found.weights[0]).sources
            size = sum(path.stat().st_size for path in set(found.weights))
    except StemwrightError as error:
        problem = str(error)
    present = found is not None and not found.missing and not problem
    return ModelEntry(
        name=name,
        description=known.description,
        stems=stems,
        present=present,
        where=found.where if found and present else "",
        missing=() if present or problem else _missing_files(known, found),
        problem=problem,
        licence=known.licence,
        size_bytes=size,
        published_sdr_db=known.published_sdr_db,
        sdr_source=known.sdr_source,
    )


def _second_family_entry(name: str, folder: Path | None) -> ModelEntry:
    known = UNBLEND_MODELS[name]
    located, problem = None, ""
    try:
        located = unblend_weights.locate(name, folder) if is_installed() else None
    except StemwrightError as error:
        problem = str(error)
    present = located is not None and not located.missing
    return ModelEntry(
        name=name,
        family="unblend",
        needs="" if is_installed() else EXTRA,
        description=known.description,
        stems=known.stems,
        present=present,
        where=located.where if located and present else "",
        missing=located.missing if located else (),
        problem=problem,
        licence=known.licence,
        size_bytes=known.size_bytes,
        published_sdr_db=known.published_sdr_db,
        sdr_source=known.sdr_source,
    )
