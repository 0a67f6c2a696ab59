"""What the Prefect UI gets to show of a flagged track, from a real server."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact
from prefect.runtime import flow_run

from flows.runner import artifacts
from flows.runner.artifacts import FlaggedPages
from tasks.contracts import TrackReport
from tasks.recording import Library
from tasks.recording.gallery import flagged, flagged_picture
from tests.gallery.studio import FLAGGED, folder_of, put, reason, report_of

BEFORE = "data:image/webp;base64,"


def shown(reports: list[TrackReport], library: str) -> list[Artifact]:
    """What a run over these reports leaves on the server."""

    @flow
    def run() -> str:
        pages = FlaggedPages()
        for report in reports:
            pages.write(report, library)
        return str(flow_run.id)

    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run()]))
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=wanted)


def image_of(artifact: Artifact) -> Any:
    data = str(artifact.data)
    assert data.startswith(BEFORE)
    return Image.open(io.BytesIO(base64.b64decode(data[len(BEFORE) :])))


def put_flagged(library: Library, track: int, **changes: Any) -> TrackReport:
    report = report_of(track, verdict="fail", score=0.1, details=FLAGGED, **changes)
    return put(library, report)


@pytest.mark.usefixtures("prefect_server")
def test_a_flagged_track_has_a_page_and_a_picture(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    bad, good = put_flagged(library, 1, title="$\\frac{"), put(library, report_of(2))
    found = shown([bad, good], library.url)
    assert {(made.type, made.key) for made in found} == {
        ("markdown", f"flagged-{bad.track_id}"),
        ("image", f"spectrogram-{bad.track_id}"),
    }
    (picture,) = [made for made in found if made.type == "image"]
    assert picture.description == "Band – $\\frac{: poor"
    assert len(str(picture.data)) < 4 / 3 * flagged.BYTES + 100
    assert image_of(picture).size[0] == 900


@pytest.mark.usefixtures("prefect_server")
def test_pictures_are_bounded_and_never_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "PICTURES", 2)
    library = Library(tmp_path / "library")
    reports = [put_flagged(library, track) for track in (1, 2, 3)]
    for file in folder_of(library, reports[0]).glob("*.flac"):
        file.unlink()
    types = [made.type for made in shown(reports, library.url)]
    assert types.count("markdown") == 3
    assert types.count("image") == 1


@pytest.mark.usefixtures("prefect_server")
def test_stems_in_an_object_store_are_left_there() -> None:
    library = Library("memory://artifacts/library")
    (page,) = shown([put_flagged(library, 1)], library.url)
    assert page.type == "markdown"


def pixels(library: Library, report: TrackReport) -> Any:
    picture = flagged_picture(report, folder_of(library, report))
    assert picture is not None
    return Image.open(io.BytesIO(picture)).convert("RGB")


def test_a_picture_has_the_mixture_and_the_flagged_stems(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    one = pixels(library, put_flagged(library, 1))
    more = (*FLAGGED, reason("bass", 0.5, 1.0), reason("drums", 0.5, 1.0))
    many = pixels(library, put(library, report_of(2, verdict="fail", score=0.1, details=more)))
    assert many.size[1] - one.size[1] == pytest.approx(2 * 115, abs=2)  # two lanes more


def test_the_passages_are_marked_in_the_picture(tmp_path: Path) -> None:
    """Vocals from 1 to 2 s of 4: the band over them is bright there, and only there."""
    library = Library(tmp_path / "library")
    image = pixels(library, put_flagged(library, 1))
    width, _ = image.size
    left, right = 0.08 * width, 0.975 * width
    lane = [image.getpixel((int(left + (right - left) * at / 4), 133))
            for at in (0.5, 1.2, 1.5, 1.8, 2.5, 3.5)]  # fmt: skip
    cyan = [green > 150 and blue > 150 for _, green, blue in lane]
    assert cyan == [False, True, True, True, False, False]


def test_there_is_no_picture_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(tmp_path / "library")
    report = put_flagged(library, 1)
    monkeypatch.setattr(flagged, "BYTES", 100)
    assert flagged_picture(report, folder_of(library, report)) is None
    assert flagged_picture(report, tmp_path / "elsewhere") is None
