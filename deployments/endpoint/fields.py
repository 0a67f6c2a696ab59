"""What a submit asks for, read from its form and held against what the model makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import cast, get_args

from deployments.endpoint.refusals import Refused
from tasks.contracts import STEMS, BitDepth, SeparationSettings, StemFormat, Value
from tasks.errors import SettingsError
from tasks.separation.stem_choice import kept_stems
from tasks.separation.stem_files import check_format

FOUR = "4"


class SubmitFields(Value):
    """The fields of a submit: an empty model is the endpoint's own, no stems are all of them."""

    model: str = ""
    stems: tuple[str, ...] = ()
    format: StemFormat = "wav"
    bit_depth: BitDepth = "24"

    def fingerprint(self, audio_sha256: str) -> str:
        """Return what tells a repeated submit from another one under the same idempotency key."""
        said = json.dumps([audio_sha256, self.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def settings(self, model: str, sources: tuple[str, ...]) -> SeparationSettings:
        """Return the settings of a separation by a model that makes `sources`.

        Raises:
            Refused: 422, it makes no such stem.
        """
        try:
            kept = kept_stems(model, sources, self.stems)
        except SettingsError as error:
            raise Refused(422, f"The model {error.cause}") from error
        return SeparationSettings(
            model=model, stems=kept, format=self.format, bit_depth=self.bit_depth
        )


def read_fields(form: Mapping[str, str]) -> SubmitFields:
    """Read a form; fields that mean nothing here are passed over.

    Raises:
        Refused: 422, a field has a value that it can't have.
    """
    stem_format = _one_of(form, "format", get_args(StemFormat), "wav")
    bit_depth = _one_of(form, "bit_depth", get_args(BitDepth), "24")
    asked = SubmitFields(
        model=form.get("model", ""),
        stems=_stems(form.get("stems", "")),
        format=cast(StemFormat, stem_format),
        bit_depth=cast(BitDepth, bit_depth),
    )
    try:
        check_format(asked.format, asked.bit_depth)
    except SettingsError as error:
        raise Refused(422, "FLAC holds no floats. Ask for wav, or a bit_depth of 16 or 24.") from (
            error
        )
    return asked


def _stems(said: str) -> tuple[str, ...]:
    if said == FOUR:
        return STEMS
    names = tuple(dict.fromkeys(name.strip() for name in said.split(",") if name.strip()))
    if said and not names:
        raise Refused(422, f'stems is {said[:40]!r}: send "4", or names joined by commas.')
    return names


def _one_of(form: Mapping[str, str], name: str, known: tuple[str, ...], default: str) -> str:
    value = form.get(name, "") or default
    if value not in known:
        raise Refused(422, f"{name} is {value[:40]!r}: send {' or '.join(known)}.")
    return value
