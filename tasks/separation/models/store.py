"""Finding, listing and verifying models: the same for every family."""

from __future__ import annotations

import difflib
import logging
import os
import re
from pathlib import Path

from tasks.contracts import Value
from tasks.errors import (
    SettingsError,
    StemwrightError,
    UnknownModel,
    WeightsMissing,
    WeightsRefused,
)
from tasks.separation.models import hub
from tasks.separation.models.digests import sha256_of
from tasks.separation.models.families import families, family_of, known_model
from tasks.separation.models.family import Located, ModelFamily, OnProgress
from tasks.separation.models.spec import EMBEDDED, KnownModel, ModelSpec

log = logging.getLogger(__name__)
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
    family: str = "demucs"
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


def models_folder(models_dir: Path | None = None) -> Path | None:
    """Return the folder of the user's own models: the argument, else `STEMWRIGHT_MODELS`."""
    named = os.environ.get("STEMWRIGHT_MODELS")
    return models_dir or (Path(named) if named else None)


def find_model(
    name: str,
    *,
    models_dir: Path | None = None,
    offline: bool = False,
    on_progress: OnProgress | None = None,
) -> ModelSpec:
    """Find a model's weights, fetching them if they are nowhere and `offline` is off.

    Reads headers and hashes only. A checkpoint that demucs published is converted the first time.

    Args:
        name: As `models list` has it.
        models_dir: The user's own models; by default `STEMWRIGHT_MODELS`.
        offline: Never ask the hub.
        on_progress: Told of every piece of a fetch; without it the log is.

    Raises:
        UnknownModel: No model of that name; the nearest names are given.
        LibraryMissing: The library of the model's family isn't installed.
        WeightsMissing: Not on this machine, and not to be had from the hub.
        WeightsRefused: A pickle that nobody vouches for, damaged, or other bytes than published.
        HubUnreachable, NetworkError, ProtocolError, DiskFull: The fetch.
    """
    folder = models_folder(models_dir)
    family, located = _locate(name, folder)
    if located.missing and (located.stuck or offline or hub.is_offline()):
        raise _missing(name, located, folder, located.stuck or "offline")
    if located.missing:
        try:
            family.fetch(name, located, on_progress or hub.LoggedProgress())
        except hub.HubUnreachable as error:
            raise _missing(name, located, folder, str(error)) from error
        family, located = _locate(name, folder)
        if located.missing:
            raise _missing(name, located, folder, "the hub lacks them")
    return family.describe(name, located)


def list_models(models_dir: Path | None = None) -> list[ModelEntry]:
    """List every known model and every one in the models folder; no network, no hashing."""
    folder = models_folder(models_dir)
    owners: dict[str, ModelFamily] = {}
    for family in families():
        for name in (*family.known, *_names_in(family, folder)):
            owners.setdefault(name, family)
    return [_entry(name, family, folder) for name, family in owners.items()]


def verify(name: str, *, models_dir: Path | None = None) -> Verification:
    """Read a model's files through: sound headers, digests, and those that were published.

    Raises:
        UnknownModel, WeightsMissing: As `find_model`, which is asked to stay offline.
    """
    try:
        spec = find_model(name, models_dir=models_dir, offline=True)
    except WeightsRefused as error:
        return Verification(name=name, files={}, problems=(str(error),))
    family = family_of(spec.family)
    digests = {str(path): sha256_of(path, fresh=True) for path in spec.weights}
    problems = tuple(
        f"{path} has the SHA-256 {digest[:12]}…, published is {published[:12]}…."
        for path, digest in digests.items()
        if (published := family.published_sha256(spec, Path(path))) and published != digest
    )
    return Verification(name=name, files=digests, problems=problems)


def fetch(name: str, *, on_progress: OnProgress | None = None) -> tuple[Path, ...]:
    """Fetch what is missing of a released model; resumes, checks sizes and hashes.

    Raises:
        UnknownModel: No model of that name.
        SettingsError: The environment says offline.
        Others: As `find_model`.
    """
    family, located = _locate(name, None)
    if located.missing and hub.is_offline():
        raise SettingsError(f"{name} can't be fetched: HF_HUB_OFFLINE is set.")
    if located.missing:
        family.fetch(name, located, on_progress or hub.LoggedProgress())
        _, located = _locate(name, None)
    return located.files


def _names_in(family: ModelFamily, folder: Path | None) -> list[str]:
    return family.names_in(folder) if folder and folder.is_dir() else []


def _locate(name: str, folder: Path | None) -> tuple[ModelFamily, Located]:
    if _NAME.fullmatch(name):
        for family in families():
            if located := family.locate(name, folder):
                return family, located
    names = {*(name for one in families() for name in (*one.known, *_names_in(one, folder)))}
    near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.5)
    hint = f"near are {', '.join(near)}" if near else f"there are {', '.join(sorted(names))}"
    raise UnknownModel(f"there is no model named {name[:80]!r}; {hint}.")


def _missing(name: str, located: Located, folder: Path | None, why: str) -> WeightsMissing:
    place = str(folder) if folder else "a folder named by --models-dir or STEMWRIGHT_MODELS"
    source = f" from huggingface.co/{', '.join(located.repos)}" if located.repos else ""
    escape = " The model `embedded` needs no files." if name != EMBEDDED else ""
    return WeightsMissing(
        f"the weights of {name} aren't on this machine ({why}): {', '.join(located.missing)}.",
        remedy=f"Put {'it' if len(located.missing) == 1 else 'them'}{source} in {place}, or run "
        f"`stemwright models fetch {name}` with a network.{escape}",
    )


def _entry(name: str, family: ModelFamily, folder: Path | None) -> ModelEntry:
    known = known_model(name) or KnownModel(name, "From the models folder.", (), licence="")
    located, problem, stems, size = None, "", known.stems, known.size_bytes
    try:
        located = None if family.needs else family.locate(name, folder)
        if located and not located.missing:
            stems = family.sources(name, located)
            size = sum(path.stat().st_size for path in set(located.files))
    except StemwrightError as error:
        problem = str(error)
    present = located is not None and not located.missing and not problem
    return ModelEntry(
        name=name,
        family=family.name,
        needs=family.needs,
        description=known.description,
        stems=stems,
        present=present,
        where=located.where if located and present else "",
        missing=located.missing if located and not problem else (),
        problem=problem,
        licence=known.licence,
        size_bytes=size,
        published_sdr_db=known.published_sdr_db,
        sdr_source=known.sdr_source,
    )
