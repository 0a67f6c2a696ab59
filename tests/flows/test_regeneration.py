"""A stem that came out broken is made again, once, and alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile

from tasks.contracts import STEMS, StemSet
from tasks.separation.local import LocalSeparator
from tasks.separation.request import SeparationRequest
from tests.flows.studio import (
    STAGES,
    files_under,
    finished_in,
    run_track,
    write_config,
    write_track,
)

pytestmark = pytest.mark.usefixtures("prefect_server")


class Damage:
    """The real engine, after which a stem's file is damaged as often as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[frozenset[str] | None] = []
        self.gains: list[float] = []
        self.due: list[Callable[[StemSet], StemSet]] = []
        self._real = LocalSeparator.separate
        outer = self

        def separate(self: LocalSeparator, request: SeparationRequest) -> StemSet:
            outer.calls.append(request.only or None)
            made = outer._real(self, request)
            outer.gains.append(made.gain)
            return outer.due.pop(0)(made) if outer.due else made

        monkeypatch.setattr(LocalSeparator, "separate", separate)


@pytest.fixture
def damage(monkeypatch: pytest.MonkeyPatch) -> Damage:
    return Damage(monkeypatch)


def cut_short(name: str) -> Callable[[StemSet], StemSet]:
    def cut(made: StemSet) -> StemSet:
        path = made.stems[name]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return made

    return cut


def lose(name: str) -> Callable[[StemSet], StemSet]:
    def remove(made: StemSet) -> StemSet:
        made.stems[name].unlink()
        stems = {stem: path for stem, path in made.stems.items() if stem != name}
        return made.model_copy(update={"stems": stems})

    return remove


@pytest.mark.parametrize("how", [cut_short, lose])
def test_only_the_broken_stem_is_made_again(
    tmp_path: Path, config: Path, damage: Damage, how: Callable[[str], Any]
) -> None:
    source = write_track(tmp_path / "a.flac", 1)
    clean = run_track(source, tmp_path / "clean", config).report("a.flac")
    damage.calls.clear()
    damage.due = [how("bass")]
    ran = run_track(source, tmp_path / "library", config)
    assert (ran.summary.done, ran.state.name) == (1, "Completed")
    assert damage.calls == [None, frozenset({"bass"})]
    report = ran.report("a.flac")
    assert report.completeness.complete
    assert report.stem_set.attempts == 2
    assert report.stem_set.gain == clean.stem_set.gain
    assert {name: check.sha256 for name, check in report.completeness.stems.items()} == {
        name: check.sha256 for name, check in clean.completeness.stems.items()
    }
    counts: dict[str, int] = {}
    for run in ran.task_runs(len(STAGES) + 2):
        stage = run.name.split(" · ")[0]
        counts[stage] = counts.get(stage, 0) + 1
    assert counts == dict.fromkeys(STAGES, 1) | {"separate": 2, "validate": 2}


def test_stems_made_again_keep_the_gain_that_the_others_have(
    tmp_path: Path, config: Path, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gain below 1 was needed for the first writing; the second must not choose another."""
    from tasks.separation import on_device

    monkeypatch.setattr(on_device, "common_gain", lambda estimates, depth: 0.5)
    damage.due = [cut_short("drums")]
    source = write_track(tmp_path / "a.flac", 1)
    report = run_track(source, tmp_path / "library", config).report("a.flac")
    assert damage.gains == [0.5, 0.5]
    assert report.stem_set.gain == 0.5


def test_broken_again_is_a_failure_that_names_the_stem(
    tmp_path: Path, config: Path, damage: Damage
) -> None:
    source = write_track(tmp_path / "a.flac", 1)
    damage.due = [cut_short("bass"), cut_short("bass")]
    ran = run_track(source, tmp_path / "library", config)
    failure = ran.failure_of("a.flac")
    assert (failure.error_type, failure.stage) == ("IncompleteSeparation", "validate")
    assert "bass" in failure.message
    assert not any(name in failure.message for name in STEMS if name != "bass")
    assert "--provider" in failure.remedy
    assert damage.calls == [None, frozenset({"bass"})]
    assert finished_in(tmp_path / "library") == {}
    rows = pd.read_parquet(tmp_path / "library/reports/failures")
    assert rows["error_type"].tolist() == ["IncompleteSeparation"]
    left = files_under(tmp_path / "library")
    assert all(name.startswith("reports/failures/") for name in left)


def test_stems_of_another_piece_are_not_made_again(
    tmp_path: Path, models_dir: Path, damage: Damage
) -> None:
    """Sound files that don't sum to the mixture: the model would only do the same again."""

    def amplify(made: StemSet) -> StemSet:
        for path in made.stems.values():
            samples, rate = soundfile.read(path)
            samples[:] = 0.9
            samples[::2] = -0.9
            soundfile.write(path, samples, rate, subtype="PCM_24")
        return made

    strict = write_config(tmp_path / "c.yaml", models_dir, completeness={"max_residual_db": 0.0})
    damage.due = [amplify]
    ran = run_track(write_track(tmp_path / "a.flac", 1), tmp_path / "library", strict)
    failure = ran.failure_of("a.flac")
    assert failure.error_type == "IncompleteSeparation"
    assert "don't sum to the mixture" in failure.message
    assert len(damage.calls) == 1
