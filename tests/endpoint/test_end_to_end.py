"""Both ends of the cloud path, each as its own command: the same stems as this machine's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tasks.contracts import STEMS, AudioPolicy, SeparationSettings, SourceAudio, TrackRef
from tasks.normalize import normalize
from tasks.separation import LocalSeparator, find_model
from tasks.separation.request import SeparationRequest
from tests.cli.conftest import write_excerpt
from tests.endpoint.house import KEY, SCRIPT, command

pytestmark = pytest.mark.timeout(600)


def separate(song: Path, base_url: str, folder: Path, server: str) -> Path:
    """`stemwright separate --provider cloud` against the endpoint; the finished track's folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEMWRIGHT_")}
    done = subprocess.run(
        [
            SCRIPT,
            "separate",
            song,
            "--provider",
            "cloud",
            "--model",
            "embedded",
            "--library",
            "out",
        ],
        cwd=folder,
        env=kept
        | {
            "STEMWRIGHT_ENGINE__BASE_URL": base_url,
            "STEMWRIGHT_ENGINE__API_KEY": KEY,
            "STEMWRIGHT_STATE": str(folder / "state"),
            "OMP_NUM_THREADS": "1",
            "PREFECT_API_URL": server,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    reports = list((folder / "out").glob("tracks/*/*/report.json"))
    assert len(reports) == 1
    return reports[0].parent


def test_separate_against_the_endpoint_is_separate_here(
    tmp_path: Path, prefect_server: str
) -> None:
    song = write_excerpt("costa_lenta", tmp_path / "song.flac", seconds=4)
    with command("--model", "embedded", "--data", tmp_path / "data", "--offline") as endpoint:
        assert endpoint.banner["device"] == "cpu"
        made = separate(song, endpoint.banner["base URL"], tmp_path, prefect_server)
        assert endpoint.end(signal.SIGINT) == 130
    report = json.loads((made / "report.json").read_text())
    assert report["stem_set"]["engine"] == "cloud"
    assert report["completeness"]["missing"] == []

    ref = TrackRef(source=str(song), kind="file")
    source = SourceAudio(ref=ref, path=song, in_scratch=False, bytes=song.stat().st_size)
    local = LocalSeparator(find_model("embedded")).separate(
        SeparationRequest(
            normalize(source, tmp_path / "local", AudioPolicy()),
            tmp_path / "local",
            SeparationSettings(model="embedded"),
        )
    )
    assert set(local.stems) == set(STEMS)
    for name, path in local.stems.items():
        ours, rate = soundfile.read(path, always_2d=True)
        theirs, their_rate = soundfile.read(made / f"{name}.flac", always_2d=True)
        assert (rate, ours.shape) == (their_rate, theirs.shape)
        error = theirs / report["stem_set"]["gain"] - ours / local.gain
        likeness_db = 10 * np.log10(np.sum(ours**2) / max(np.sum(error**2), 1e-30))
        assert likeness_db >= 80, f"{name}: {likeness_db:.1f} dB"
