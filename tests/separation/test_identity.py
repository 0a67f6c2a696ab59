"""SEPARATION_ID: the same for ever, and different whenever the stems would be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contracts import STEMS, SeparationSettings
from tasks.separation import LocalSeparator, ModelSpec, separation_id

SPEC = ModelSpec(
    name="htdemucs",
    sources=STEMS,
    sample_rate_hz=44_100,
    channels=2,
    segment_s=7.8,
    weights=(Path("955717e8.safetensors"),),
    weights_sha256="ab" * 32,
    origin="folder",
)
PLAIN = SeparationSettings()


def test_it_never_changes() -> None:
    # Libraries are looked up by these: a change here separates every finished track again.
    assert separation_id(SPEC, PLAIN) == "htdemucs-9d641fe2"
    # The default settings on a CPU, whatever was measured there.
    assert LocalSeparator(SPEC).separation_id(PLAIN) == "htdemucs-9d641fe2"
    cloud = separation_id(SPEC, PLAIN, provider="stemwright", base_url="https://gpu.example/v1")
    assert cloud == "htdemucs-5ee58fea"


@pytest.mark.parametrize(
    "settings",
    [
        SeparationSettings(overlap=0.1),
        SeparationSettings(shifts=1),
        SeparationSettings(shifts=1, seed=4),
        SeparationSettings(format="wav"),
        SeparationSettings(bit_depth="16"),
        SeparationSettings(stems=("vocals",)),
    ],
)
def test_what_changes_the_stems_changes_it(settings: SeparationSettings) -> None:
    assert separation_id(SPEC, settings) != separation_id(SPEC, PLAIN)


def test_what_does_not_change_the_stems_does_not() -> None:
    same = [
        separation_id(SPEC, SeparationSettings(seed=9)),
        separation_id(SPEC, SeparationSettings(stems=("vocals", "drums", "bass", "other"))),
        separation_id(SPEC.model_copy(update={"weights": (Path("/else/x.safetensors"),)}), PLAIN),
    ]
    assert set(same) == {separation_id(SPEC, PLAIN)}
    two = SeparationSettings(stems=("vocals", "drums"))
    turned = SeparationSettings(stems=("drums", "vocals"))
    assert separation_id(SPEC, two) == separation_id(SPEC, turned)


def test_weights_precision_and_service_count() -> None:
    url = {"provider": "stemwright", "base_url": "https://gpu.example/v1"}
    ids = {
        separation_id(SPEC, PLAIN),
        separation_id(SPEC.model_copy(update={"weights_sha256": "cd" * 32}), PLAIN),
        separation_id(SPEC, PLAIN, precision="fp16"),
        separation_id(SPEC, PLAIN, **url),
        separation_id(SPEC, PLAIN, **{**url, "base_url": "https://other.example/v1"}),
    }
    assert len(ids) == 5
    path = {**url, "base_url": "https://user:secret@gpu.example/v2"}
    assert separation_id(SPEC, PLAIN, **path) == separation_id(SPEC, PLAIN, **url)


def test_it_is_a_folder_name() -> None:
    odd = SPEC.model_copy(update={"name": "../mine/é"})
    assert separation_id(odd, PLAIN).split("-")[0] == "mine"
