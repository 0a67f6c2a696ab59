"""Folders with reference stems are found whatever they are called."""

from __future__ import annotations

import os
from pathlib import Path

from flows.reference_stems import find_tracks, mixture_of, reference_stems_of
from tasks.contracts import AudioPolicy
from tests.flows.studio import write_track


def test_a_folder_whose_name_is_not_utf8_is_evaluated(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Am\xe9lie"))
    for number, stem in enumerate(("vocals", "drums")):
        write_track(tmp_path / f"{stem}.flac", number, seconds=1.0)
    folder.mkdir()
    for stem in ("vocals", "drums"):
        (tmp_path / f"{stem}.flac").rename(folder / f"{stem}.flac")
    (track,) = find_tracks(folder.parent, ("vocals", "drums"))
    assert track.name == "Am\ufffdlie"
    assert track.model_dump_json(exclude={"stems"})
    work = tmp_path / "work"
    work.mkdir()
    mixture = mixture_of(track, work, AudioPolicy())
    assert mixture.duration_s == 1.0
    assert set(reference_stems_of(track, ("vocals", "drums"), mixture, work).paths) == set(
        track.stems
    )
