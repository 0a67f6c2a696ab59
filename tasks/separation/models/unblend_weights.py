"""Finding the weights of the second family: the models folder, the hub's cache, the library's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import WeightsMissing, WeightsRefused, from_os_error
from tasks.separation.models import hub
from tasks.separation.models.digests import sha256_of
from tasks.separation.models.spec import ModelSpec, Origin, combined_digest
from tasks.separation.models.transfer import Told
from tasks.separation.models.unblend_registry import (
    UNBLEND_MODELS,
    Artifact,
    Recipe,
    recipe_of,
)


@dataclass(frozen=True)
class Located:
    """A model's files: those that are here, and the names of those that aren't."""

    recipe: Recipe
    here: dict[Artifact, tuple[Path, Origin]]

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(each.file for each in self.absent)

    @property
    def absent(self) -> tuple[Artifact, ...]:
        return tuple(each for each in self.recipe.artifacts if each not in self.here)

    @property
    def where(self) -> str:
        return ", ".join(dict.fromkeys(str(path.parent) for path, _ in self.here.values()))


def locate(name: str, folder: Path | None) -> Located:
    """Look for a model's files on this machine, by name; nothing is read of them.

    Raises:
        LibraryMissing, ProtocolError: As `recipe_of`.
    """
    recipe = recipe_of(name)
    found = {each: _find(each, folder) for each in recipe.artifacts}
    return Located(recipe, {each: place for each, place in found.items() if place})


def find(name: str, folder: Path | None, *, offline: bool, told: Told | None = None) -> ModelSpec:
    """A model of the second family, its weights fetched if they are nowhere and it may.

    Raises:
        LibraryMissing: `unblend` isn't installed.
        WeightsMissing: Not on this machine, and not to be had from the hub.
        WeightsRefused: A file isn't what the library's registry says.
    """
    located = locate(name, folder)
    if located.absent and (offline or hub.is_offline()):
        raise _missing(located, folder, "offline")
    told = told or hub.LoggedProgress()
    try:
        for each in located.absent:
            hub.fetch_file(each.repo, each.file, told, revision=each.revision, sha256=each.sha256)
    except hub.HubUnreachable as error:
        raise _missing(located, folder, str(error)) from error
    return _described(locate(name, folder))


def promised_digest(name: str, path: Path) -> str:
    """The SHA-256 that the library's registry gives for a file, or ""."""
    here = locate(name, path.parent).here
    return next((each.sha256 for each, (place, _) in here.items() if place == path), "")


def _find(artifact: Artifact, folder: Path | None) -> tuple[Path, Origin] | None:
    if folder and (own := folder / artifact.file).is_file():
        return own, "folder"
    if cached := hub.cached_file(artifact.repo, artifact.file, artifact.revision):
        return cached, "hub"
    theirs = _librarys_cache() / f"{artifact.sha256[:16]}.safetensors"
    return (theirs, "hub") if theirs.is_file() else None


def _librarys_cache() -> Path:
    # As `unblend.repo.get_cache_dir` has it, which can't be asked without importing torch.
    named = os.environ.get("UNBLEND_CACHE_DIR")
    return Path(named).expanduser() if named else Path.home() / ".unblend" / "models"


def _described(located: Located) -> ModelSpec:
    recipe, known = located.recipe, UNBLEND_MODELS[located.recipe.name]
    places = [located.here[each] for each in recipe.artifacts]
    for artifact, (path, _) in zip(recipe.artifacts, places, strict=True):
        _check(artifact, path)
    return ModelSpec(
        name=recipe.name,
        family="unblend",
        sources=recipe.sources,
        sample_rate_hz=recipe.sample_rate_hz,
        channels=recipe.channels,
        segment_s=recipe.segment_s,
        weights=tuple(path for path, _ in places),
        weights_sha256=combined_digest([each.sha256 for each in recipe.artifacts]),
        recipe_sha256=recipe.digest,
        size_bytes=sum(each.size_bytes for each in set(recipe.artifacts)),
        licence=known.licence,
        published_sdr_db=known.published_sdr_db,
        origin=places[0][1],
    )


def _check(artifact: Artifact, path: Path) -> None:
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise from_os_error(error) from error
    if digest != artifact.sha256:
        raise WeightsRefused(
            f"{path} has the SHA-256 {digest[:12]}…, and unblend's registry wants "
            f"{artifact.sha256[:12]}….",
            remedy="Delete it and fetch or copy it again.",
        )


def _missing(located: Located, folder: Path | None, why: str) -> WeightsMissing:
    name = located.recipe.name
    place = str(folder) if folder else "a folder named by --models-dir or STEMWRIGHT_MODELS"
    repos = ", ".join(dict.fromkeys(each.repo for each in located.absent))
    return WeightsMissing(
        f"the weights of {name} aren't on this machine ({why}): {', '.join(located.missing)}.",
        remedy=f"Put {'it' if len(located.missing) == 1 else 'them'} from huggingface.co/{repos} "
        f"in {place}, or run `stemwright models fetch {name}` with a network.",
    )
