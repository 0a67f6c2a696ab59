"""Each stage is called in another process with its pickled input, and gives the same result."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from blocks.settings import StemwrightSettings, load_settings
from flows.runner.setup import Prepared, prepare
from tasks import stages
from tasks.contracts import Run, TrackRef
from tasks.quality.calibration import Calibration
from tasks.recording import Library
from tasks.stages import Incomplete, Ingested, Normalized, Scored, Separated, Validated
from tests.flows.studio import write_config, write_track
from tests.tiny_model import make_tiny_model

MEASURED = {"separation_s", "peak_rss_bytes", "peak_vram_bytes", "created_at"}
"""What depends on the moment and the process, and not on what a stage is given."""

RUN = Run(run_id="run-1", flow_run_name="a run", stemwright_version="0")


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A process that has nothing of this one but what is sent to it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> StemwrightSettings:
    folder = tmp_path_factory.mktemp("settings")
    config = write_config(folder / "c.yaml", make_tiny_model(folder / "models"))
    return load_settings(config, {"local": {"openvino": "off"}})


@pytest.fixture(scope="module")
def prepared(settings: StemwrightSettings) -> Iterator[Prepared]:
    prepared = prepare(settings)
    with prepared.engine:
        yield prepared


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def ref(scratch: Path) -> TrackRef:
    source = write_track(scratch / "a.flac", 1, seconds=2.0, artist="Duo", genre="Folk")
    return TrackRef(source=str(source), kind="file", title="Named", extra={"mood": "calm"})


@pytest.fixture(scope="module")
def ingested(ref: TrackRef, scratch: Path, settings: StemwrightSettings) -> Ingested:
    return stages.ingest(ref, scratch / "track", settings.ingest_policy())


@pytest.fixture(scope="module")
def normalized(ingested: Ingested, scratch: Path, settings: StemwrightSettings) -> Normalized:
    return stages.normalize(ingested, scratch / "track", settings.audio_policy())


@pytest.fixture(scope="module")
def separated(normalized: Normalized, prepared: Prepared) -> Separated:
    return stages.separate(normalized, prepared.engine, prepared.settings.separation)


@pytest.fixture(scope="module")
def validated(separated: Separated, settings: StemwrightSettings) -> Validated:
    made = stages.validate(separated, settings.completeness, settings.quality)
    assert isinstance(made, Validated)
    return made


@pytest.fixture(scope="module")
def scored(validated: Validated, settings: StemwrightSettings) -> Scored:
    return stages.score(validated, settings.quality)


def elsewhere(pool: ProcessPoolExecutor, stage: Callable[..., Any], *given: Any, **how: Any) -> Any:
    """What a stage returns in the other process."""
    return pool.submit(stage, *given, **how).result()


def facts(value: BaseModel) -> str:
    """All that a value says but for what was measured of the moment; NaN is like NaN."""
    return repr(_lasting(value.model_dump()))


def _lasting(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _lasting(one) for name, one in value.items() if name not in MEASURED}


def contents(paths: dict[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in paths.items()}


def test_ingest(
    pool: ProcessPoolExecutor, ref: TrackRef, ingested: Ingested, scratch: Path, settings: Any
) -> None:
    made = elsewhere(pool, stages.ingest, ref, scratch / "track", settings.ingest_policy())
    assert made == ingested
    assert made.label == "Duo – Named"


def test_normalize(
    pool: ProcessPoolExecutor,
    ingested: Ingested,
    normalized: Normalized,
    scratch: Path,
    settings: Any,
) -> None:
    here = normalized.mixture.path.read_bytes()
    made = elsewhere(pool, stages.normalize, ingested, scratch / "track", settings.audio_policy())
    assert made == normalized
    assert made.mixture.path.read_bytes() == here


def test_separate(
    pool: ProcessPoolExecutor, normalized: Normalized, separated: Separated, prepared: Prepared
) -> None:
    here = contents(separated.stem_set.stems)
    given = (normalized, prepared.engine, prepared.settings.separation)
    made = elsewhere(pool, stages.separate, *given)
    assert facts(made) == facts(separated)
    assert made.stem_set.engine == "local_cpu"
    assert contents(made.stem_set.stems) == here


def test_separate_what_is_missing(
    pool: ProcessPoolExecutor, separated: Separated, prepared: Prepared
) -> None:
    """The loop of validation and separation crosses over, too: its state is in the value."""
    whole = contents(separated.stem_set.stems)
    bass = separated.stem_set.stems["bass"]
    bass.write_bytes(b"no audio")
    policies = (prepared.settings.completeness, prepared.settings.quality)
    found = elsewhere(pool, stages.validate, separated, *policies)
    assert isinstance(found, Incomplete)
    assert facts(found) == facts(stages.validate(separated, *policies))
    assert found.missing == {"bass"}
    made = elsewhere(pool, stages.separate, found, prepared.engine, prepared.settings.separation)
    assert made.remade == {"bass"}
    assert contents(made.stem_set.stems) == whole
    assert isinstance(elsewhere(pool, stages.validate, made, *policies), Validated)


def test_validate(
    pool: ProcessPoolExecutor, separated: Separated, validated: Validated, settings: Any
) -> None:
    made = elsewhere(pool, stages.validate, separated, settings.completeness, settings.quality)
    assert facts(made) == facts(validated)
    assert made.completeness.complete


def test_score(
    pool: ProcessPoolExecutor, validated: Validated, scored: Scored, settings: Any
) -> None:
    made = elsewhere(pool, stages.score, validated, settings.quality)
    assert facts(made) == facts(scored)
    assert made.quality.score is not None


def test_report_and_record(
    pool: ProcessPoolExecutor, scored: Scored, settings: Any, scratch: Path
) -> None:
    given = (scored, settings.separation, RUN)
    how = {"pipeline_s": 1.5, "attempts": 2, "calibration": Calibration(tracks=3)}
    report = stages.report(*given, **how)
    assert facts(elsewhere(pool, stages.report, *given, **how)) == facts(report)
    folder = scored.mixture.path.parent
    kept = contents(scored.stem_set.stems)
    library = Library(scratch / "library")
    made = elsewhere(pool, stages.record, report, folder, library)
    assert not folder.exists()
    assert made == library.report(report.track_id, report.separation_id)
    place = Path(library.folder(report.track_id, report.separation_id))
    assert contents({name: place / path for name, path in made.stem_set.stems.items()}) == kept


def test_an_engine_that_asks_a_service_crosses_as_what_it_was_made_of(tmp_path: Path) -> None:
    engine = {"provider": "cloud", "api_key": "secret", "base_url": "http://127.0.0.1:9/v1"}
    config = write_config(tmp_path / "c.yaml", tmp_path, engine=engine)
    settings = load_settings(config, {"separation": {"model": "htdemucs"}})
    here = prepare(settings).engine
    there = pickle.loads(pickle.dumps(here))
    assert there.info == here.info
    assert there.separation_id(settings.separation) == here.separation_id(settings.separation)
