"""What is wrong around the tracks: the settings, the model, the disk, the size of the catalog."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.errors import SettingsError, UnknownModel, WeightsMissing
from tests.flows.studio import finished_in, run_catalog, run_track, write_config, write_track

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_an_unknown_key_starts_nothing_and_names_the_nearest(
    tmp_path: Path, models_dir: Path
) -> None:
    source = write_track(tmp_path / "a.flac", 1)
    config = write_config(tmp_path / "c.yaml", models_dir, separation={"overlapp": 0.1})
    with pytest.raises(SettingsError, match=r"overlapp.*overlap"):
        run_track(source, tmp_path / "library", config)
    assert not (tmp_path / "library").exists()


def test_a_model_that_isn_t_there_says_where_to_put_it(tmp_path: Path, config: Path) -> None:
    (tmp_path / "models").mkdir()
    source = write_track(tmp_path / "a.flac", 1)
    with pytest.raises((WeightsMissing, UnknownModel)) as caught:
        run_catalog(
            [source],
            tmp_path / "library",
            config,
            separation={"model": "htdemucs"},
            control={"models_dir": str(tmp_path / "models"), "offline": True},
        )
    assert str(tmp_path / "models") in str(caught.value)
    assert "htdemucs" in str(caught.value)
    assert not (tmp_path / "library").exists()


def test_a_stem_that_the_model_hasn_t_starts_nothing(tmp_path: Path, config: Path) -> None:
    source = write_track(tmp_path / "a.flac", 1)
    with pytest.raises(SettingsError, match="kazoo"):
        run_catalog([source], tmp_path / "library", config, separation={"stems": ["kazoo"]})
    assert not (tmp_path / "library").exists()


def test_of_a_million_rows_only_those_asked_for_are_read(tmp_path: Path, config: Path) -> None:
    write_track(tmp_path / "0.flac", 1)
    write_track(tmp_path / "1.flac", 2)
    with (tmp_path / "million.csv").open("w") as file:
        file.write("source\n")
        file.writelines(f"{number}.flac\n" for number in range(1_000_000))
    ran = run_catalog([tmp_path / "million.csv"], tmp_path / "library", config, limit=2)
    assert (ran.summary.done, ran.summary.found) == (2, 2)


def test_a_full_disk_costs_the_track_that_met_it_and_no_other(
    prefect_server: str, tmp_path: Path, models_dir: Path
) -> None:
    """The system refuses files over a size, as it refuses everything on a full disk."""
    config = write_config(tmp_path / "c.yaml", models_dir)
    write_track(tmp_path / "music/a.flac", 1)
    write_track(tmp_path / "music/b.flac", 2, seconds=12.0)
    write_track(tmp_path / "music/c.flac", 3)
    limit = 1_000_000

    ended = subprocess.run(
        [
            *(Path(sys.executable).with_name("stemwright"), "separate", tmp_path / "music"),
            *("--library", tmp_path / "library", "--config", config, "--json"),
        ],
        env=os.environ | {"PREFECT_API_URL": prefect_server},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr.decode()
    document = json.loads(ended.stdout)
    assert (document["done"], document["failed"]) == (2, 1)
    (failure,) = document["failures"]
    assert failure["error_type"] == "DiskFull"
    assert failure["source"].endswith("b.flac")
    assert "Make room" in failure["remedy"]
    before = finished_in(tmp_path / "library")
    assert len(before) == 2
    assert not (tmp_path / "library/.scratch").exists()

    again = run_catalog([tmp_path / "music"], tmp_path / "library", config)
    assert (again.summary.done, again.summary.already, again.summary.exit_code) == (1, 2, 0)
    assert before.items() <= finished_in(tmp_path / "library").items()
