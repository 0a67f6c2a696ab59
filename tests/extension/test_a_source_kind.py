"""Another kind of source costs one file: this one makes tones, and adds itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tasks.contracts import Failure, IngestPolicy, TrackRef
from tasks.errors import SettingsError
from tasks.sources import Fetched, Row, Source, read_catalog, register, source_for, source_of
from tasks.sources.kinds import KINDS, Rows
from tests.flows.studio import finished_in, run_catalog, write_config
from tests.tiny_model import make_tiny_model

RATE = 44_100
SCALE = {"tone://440": "A", "tone://495": "B"}


class Tone(Source):
    """`tone://440` is a second of that pitch, `tone://scale` several of them."""

    name = "tone"

    def matches(self, source: str) -> bool:
        return source.startswith("tone://")

    def needs_network(self, source: str) -> bool:
        return False

    def is_cheap_to_count(self, source: str) -> bool:
        return True

    def expand(self, source: str) -> Rows:
        if source == "tone://scale":
            for url, title in SCALE.items():
                yield Row(url, fields={"title": title})
        else:
            yield Row(source)

    def fetch(self, source: str, scratch: Path, policy: IngestPolicy) -> Fetched:
        hz = float(source.removeprefix("tone://"))
        tone = 0.3 * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)
        path = scratch / "source.flac"
        soundfile.write(path, np.stack([tone, tone], axis=1), RATE)
        return Fetched(path, self.fingerprint(source))

    def fingerprint(self, source: str) -> str:
        return source


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register(Tone)
    yield
    del KINDS[Tone.name]


def test_it_is_asked_before_the_kinds_that_are_there() -> None:
    assert source_for("tone://440").name == "tone"
    assert source_for("s3://bucket/440.flac").name == "fsspec"


def test_it_is_expanded_alone_and_in_a_catalog(tmp_path: Path) -> None:
    catalog = tmp_path / "songs.csv"
    catalog.write_text("source,title,artist\ntone://scale,,Duo\ntone://330,E,Solo\n")
    found = [ref for ref in read_catalog([str(catalog)]) if not isinstance(ref, Failure)]
    assert [(ref.source, ref.kind, ref.title, ref.artist) for ref in found] == [
        ("tone://440", "tone", "A", "Duo"),
        ("tone://495", "tone", "B", "Duo"),
        ("tone://330", "tone", "E", "Solo"),
    ]
    assert not source_of(found[0]).is_local


@pytest.mark.usefixtures("prefect_server")
def test_it_goes_through_a_whole_run_and_is_done_in_the_next(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    config = write_config(tmp_path / "stemwright.yaml", make_tiny_model(models))
    library = tmp_path / "library"
    ran = run_catalog(["tone://scale"], library, config)
    assert ran.diary.total == 2
    assert ran.summary.failures == []
    assert sorted(
        (line.source, ran.report(Path(line.source).name).title) for line in ran.summary.tracks
    ) == sorted(SCALE.items())
    before = finished_in(library)
    assert len(before) == 2
    again = run_catalog(["tone://scale"], library, config)
    assert again.diary.count("separate") == 0
    assert finished_in(library) == before


def test_a_kind_that_nobody_registered_is_named() -> None:
    with pytest.raises(SettingsError, match="named 'tape'"):
        source_of(TrackRef(source="tape://1", kind="tape"))
