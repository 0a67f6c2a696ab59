"""Models of the library `unblend`, which comes with `stemwright[unblend]`.

What they are called and separate stands here, so that they can be listed without the library.
Where their weights are, and how each is built, stands in the library's own registry.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.contracts import LocalOptions
from tasks.errors import WeightsRefused, from_os_error
from tasks.separation.models import hub
from tasks.separation.models.digests import sha256_of
from tasks.separation.models.family import Located, ModelFamily, OnProgress
from tasks.separation.models.spec import KnownModel, ModelSpec, Origin, combined_digest
from tasks.separation.unblend.recipes import EXTRA, Artifact, Recipe, is_installed, recipe_of

if TYPE_CHECKING:
    from tasks.separation.on_device import DeviceSeparator

_MEASURED = "unblend 1.0's registry: mean over the 50 tracks of MUSDB18-HQ's test set"
_TWO_STEMS = f"{_MEASURED}, of two stems, so not to be compared with models of four"
_NO_TERMS = "none stated"
_VOCALS = ("vocals", "other")
_SIX = ("bass", "drums", "other", "vocals", "guitar", "piano")
_FOUR = ("drums", "bass", "other", "vocals")
_MB = 1_000_000

_ALL = (
    KnownModel(
        "bs_roformer_sw",
        "BS-RoFormer of six stems.",
        stems=_SIX,
        sdr_source="not published; who trained it isn't known",
        licence=_NO_TERMS,
        size_bytes=699 * _MB,
    ),
    KnownModel(
        "bs_roformer_anvuew",
        "BS-RoFormer for vocals.",
        stems=_VOCALS,
        published_sdr_db=12.43,
        sdr_source=_TWO_STEMS,
        licence="GPL-3.0",
        size_bytes=204 * _MB,
    ),
    KnownModel(
        "melband_roformer_kim",
        "Mel-Band RoFormer for vocals.",
        stems=_VOCALS,
        published_sdr_db=12.01,
        sdr_source=_TWO_STEMS,
        licence="MIT",
        size_bytes=913 * _MB,
    ),
    KnownModel(
        "scnet_small",
        "Small SCNet, trained on MUSDB18 alone.",
        stems=_FOUR,
        published_sdr_db=8.81,
        sdr_source="the name of the checkpoint that ZFTurbo published",
        licence=_NO_TERMS,
        size_bytes=42 * _MB,
    ),
    KnownModel(
        "scnet_xl_wide_v5",
        "Large SCNet (XL IHF), trained on MUSDB18 alone.",
        stems=_FOUR,
        published_sdr_db=9.87,
        sdr_source=f"{_MEASURED}; the name of its checkpoint says 10.09",
        licence=_NO_TERMS,
        size_bytes=214 * _MB,
    ),
    KnownModel(
        "roformer_vocals_ensemble",
        "melband_roformer_kim and bs_roformer_anvuew, averaged.",
        stems=_VOCALS,
        published_sdr_db=12.59,
        sdr_source=_TWO_STEMS,
        licence="MIT and GPL-3.0",
        size_bytes=1117 * _MB,
    ),
    KnownModel(
        "htdemucs_scnet_ensemble",
        "htdemucs and scnet_xl_wide_v5, averaged.",
        stems=_FOUR,
        published_sdr_db=9.76,
        sdr_source=_MEASURED,
        licence=_NO_TERMS,
        size_bytes=298 * _MB,
    ),
)
_KNOWN = {model.name: model for model in _ALL}


class UnblendFamily(ModelFamily):
    """BS-RoFormer, Mel-Band RoFormer and SCNet, and ensembles of them."""

    name: ClassVar[str] = "unblend"
    known: ClassVar[Mapping[str, KnownModel]] = _KNOWN

    @property
    def needs(self) -> str:
        return "" if is_installed() else EXTRA

    def locate(self, name: str, folder: Path | None) -> Located | None:
        if name not in _KNOWN:
            return None
        recipe = recipe_of(name)
        places = {each: _find(each, folder) for each in recipe.artifacts}
        here = [place for each in recipe.artifacts if (place := places[each])]
        absent = [each for each, place in places.items() if place is None]
        return Located(
            files=tuple(path for path, _ in here),
            missing=tuple(each.file for each in absent),
            origin=here[0][1] if here else "hub",
            repos=tuple(dict.fromkeys(each.repo for each in absent)),
            plan=recipe,
        )

    def describe(self, name: str, located: Located) -> ModelSpec:
        recipe: Recipe = located.plan
        for artifact, path in zip(recipe.artifacts, located.files, strict=True):
            _check(artifact, path)
        return ModelSpec(
            name=name,
            family=self.name,
            sources=recipe.sources,
            sample_rate_hz=recipe.sample_rate_hz,
            channels=recipe.channels,
            segment_s=recipe.segment_s,
            weights=located.files,
            weights_sha256=combined_digest([each.sha256 for each in recipe.artifacts]),
            recipe_sha256=recipe.digest,
            size_bytes=sum(each.size_bytes for each in set(recipe.artifacts)),
            licence=_KNOWN[name].licence,
            published_sdr_db=_KNOWN[name].published_sdr_db,
            origin=located.origin,
        )

    def fetch(self, name: str, located: Located, on_progress: OnProgress) -> None:
        recipe: Recipe = located.plan
        for each in dict.fromkeys(recipe.artifacts):
            if each.file in located.missing:
                hub.fetch_file(
                    each.repo, each.file, on_progress, revision=each.revision, sha256=each.sha256
                )

    def published_sha256(self, spec: ModelSpec, file: Path) -> str:
        artifacts = recipe_of(spec.name).artifacts
        return dict(zip(spec.weights, (each.sha256 for each in artifacts), strict=True))[file]

    def make_engine(
        self, spec: ModelSpec, *, device: str, options: LocalOptions | None = None, **common: Any
    ) -> DeviceSeparator:
        from tasks.separation.unblend.separator import UnblendSeparator

        return UnblendSeparator(spec, device=device, **common)


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
