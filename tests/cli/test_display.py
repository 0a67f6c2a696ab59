"""What a run looks like: bars on a terminal, lines in a pipe, and the table at the end."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from flows.cli import progress, separate
from flows.cli.console import plain
from flows.cli.progress import Bars, Lines, pace
from flows.cli.tables import quality_table
from flows.runner.progress import ProgressTracker
from flows.runner.summary import RunSummary, with_known
from tasks.contracts import STEMS, Failure, TrackRef
from tasks.events import RunStarted, SeparationProgress, StageEntered, TrackEnded, TrackStarted
from tasks.outcome import Done, Failed, Outcome, Skipped
from tasks.recording import Library, TrackRow
from tasks.run_context import TrackState
from tests.recording.factory import SEPARATION_ID, make_report, track_id_of, write_folder

ODD = [
    "[red]x[/]",
    "[/] :fire: \\",
    "🎸👨‍👩‍👧 音楽のとても長い題名がここにあります",
    "../../etc/passwd",
    "long " * 60,
    "new\nline \x1b[31mred\x1b[0m \u202eback",
]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def console_of(width: int, *, terminal: bool) -> Console:
    return Console(
        file=io.StringIO(), width=width, force_terminal=terminal, emoji=False, highlight=False
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


OLD = Skipped(("a", "b"), remembered=True)


def track_of(title: str, number: int = 0, outcome: Outcome | None = None) -> TrackState:
    ref = TrackRef(source=f"/music/{number}.flac", kind="file", title=title, artist="Band")
    return TrackState(ref=ref, folder=Path("/nowhere"), outcome=outcome)


def go(display: Bars | Lines) -> None:
    """A run of odd tracks: all under way at once, then one after the other to its end."""
    with display:
        display(RunStarted(len(ODD)))
        tracks = [track_of(title, number) for number, title in enumerate(ODD)]
        for track in tracks:
            display(TrackStarted(track))
            for stage in ("ingest", "normalize", "separate"):
                display(StageEntered(track, stage))
            display(SeparationProgress(track, 0.5))
        for number, track in enumerate(tracks):
            track.outcome = Done(make_report(number, title=track.ref.title))
            display(TrackEnded(track))


@pytest.mark.parametrize("width", [80, 120])
def test_bars_fit_the_terminal_whatever_the_titles(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    console = console_of(width, terminal=True)
    monkeypatch.setattr(progress, "err", console)
    go(Bars())
    shown = ESCAPES.sub("", written(console))
    assert "\x1b[31mred" not in written(console)
    bars = [line.rstrip() for line in re.split(r"[\r\n]+", shown) if "━" in line]
    assert bars
    # Room for the "^C" that a terminal echoes, and no wrapped rows.
    assert max(cell_len(line) for line in bars) <= width - 4
    assert any("separating, 50%" in line for line in bars)
    assert any("of 6" in line for line in bars)
    assert "[red]x[/]: check 0.50" in shown
    assert ":fire:" in shown


def test_bars_name_every_track_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    console = console_of(80, terminal=True)
    monkeypatch.setattr(progress, "err", console)
    with Bars() as bars:
        bars(StageEntered(track_of("A Title of Some Words"), "normalize"))
    assert "A Title of Some Words" in ESCAPES.sub("", written(console))


def test_a_pipe_gets_a_plain_line_a_track(monkeypatch: pytest.MonkeyPatch) -> None:
    console = console_of(100_000, terminal=False)
    monkeypatch.setattr(progress, "err", console)
    go(Lines())
    lines = written(console).splitlines()
    assert len(lines) == len(ODD)
    assert "\x1b" not in written(console)
    assert lines[0].startswith("[1 of 6] Band – [red]x[/]: check 0.50, 2.0× real time")
    assert lines[-1].startswith("[6 of 6] ")


def test_tracks_that_were_done_before_make_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    console = console_of(100, terminal=False)
    monkeypatch.setattr(progress, "err", console)
    with Lines() as lines:
        for number in range(1000):
            lines(TrackEnded(track_of("Song", number, OLD)))
    assert written(console) == ""


def test_a_failure_says_stage_cause_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    console = console_of(200, terminal=False)
    monkeypatch.setattr(progress, "err", console)
    failure = Failure(
        source="a.mp3",
        stage="normalize",
        error_type="NotAudio",
        message="it is no audio.",
        remedy="Give a file that holds audio.",
        retryable=False,
    )
    with Lines() as lines:
        lines(TrackEnded(track_of("Song", outcome=Failed(failure))))
    assert "Song: failed in normalize: it is no audio. Give a file" in written(console)


def test_the_pace_counts_what_this_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("flows.runner.progress.time.monotonic", lambda: now[0])
    tracker = ProgressTracker()
    tracker(RunStarted(10))
    for number in range(6):
        tracker(TrackEnded(track_of("old", number, OLD)))
    assert pace(tracker) == ["6 of 10"]
    first = track_of("new", 7)
    tracker(SeparationProgress(first, 0.0))
    now[0] += 5.0
    first.outcome = Done(make_report(7))  # ten seconds of audio
    tracker(TrackEnded(first))
    assert tracker.speed == pytest.approx(2.0)
    assert tracker.left_s == pytest.approx(15.0)
    assert pace(tracker) == ["7 of 10", "2.0× real time", "0:15 left"]


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_table_fits_and_clips_no_name(width: int) -> None:
    console = console_of(width, terminal=True)
    reasons = ["estimated_sdr_low", "bleed_from_vocals", "residual_high", "clipped"]
    rows = [
        TrackRow(title=title, verdict="fail", score=0.123, duration_s=20.0, reasons=reasons)
        for title in map(plain, ODD)
    ]
    console.print(quality_table(rows, width))
    lines = ESCAPES.sub("", written(console)).splitlines()
    assert max(cell_len(line.rstrip()) for line in lines) <= width
    squeezed = re.sub(r"\s+", "", "".join(line[: width // 2] for line in lines))
    assert "[red]x[/]" in squeezed
    assert ":fire:" in squeezed
    assert "../../etc/passwd" in squeezed
    assert "\\\\" not in squeezed
    assert "…" not in "".join(lines)


def test_what_only_a_file_s_name_told_is_marked() -> None:
    console = console_of(160, terminal=False)
    names = {"artist": "Band", "title": "Song"}
    console.print(quality_table([TrackRow(**names, guessed=tuple(names)), TrackRow(**names)], 160))
    tracks = [line.split("  ")[0].strip() for line in written(console).splitlines()]
    assert [name for name in tracks if "Band" in name] == ["Band – Song (guessed)", "Band – Song"]


def summary_of(library: Path, lines: list[dict[str, Any]], **counts: int) -> RunSummary:
    return RunSummary(
        library=str(library),
        run_id="run",
        separation_id=SEPARATION_ID,
        model="htdemucs",
        engine="local_cpu",
        device="cpu",
        reasons=[],
        tracks=lines,
        **counts,
    )


def line_of(track: int, status: str) -> dict[str, Any]:
    return {
        "source": f"/music/{track}.mp3",
        "label": f"Artist – Song {track}",
        "status": status,
        "track_id": track_id_of(track),
        "separation_id": SEPARATION_ID,
        "folder": f"/library/tracks/{track_id_of(track)}/{SEPARATION_ID}",
        "score": 0.5 if status == "done" else None,
    }


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunSummary], str]:
    def show(summary: RunSummary) -> str:
        console = console_of(160, terminal=False)
        monkeypatch.setattr(separate, "out", console)
        separate.show(summary)
        return written(console)

    return show


def fill(library: Path, tracks: int) -> None:
    place = Library(library)
    with place.workspace("run") as scratch:
        for track in range(tracks):
            report = make_report(track, title=f"Song {track}")
            folder = write_folder(scratch / str(track), report)
            place.write_rows([place.commit(folder, report)])


def test_what_was_there_already_is_in_the_table_once(
    tmp_path: Path, shown: Callable[[RunSummary], str]
) -> None:
    fill(tmp_path / "library", 3)
    lines = [line_of(0, "already"), line_of(1, "already"), line_of(1, "duplicate")]
    summary = summary_of(tmp_path / "library", lines, already=2, duplicates=1)
    text = shown(with_known(summary, Library(tmp_path / "library")))
    assert "Nothing was left to do" in text
    assert text.count("Song 0") == text.count("Song 1") == 1
    assert "Song 2" not in text
    assert "0.50" in text
    assert "0 separated, 2 already done, 1 the same audio as another, 0 failed." in text


def test_a_long_table_is_cut_and_says_where_the_rest_is(
    tmp_path: Path, shown: Callable[[RunSummary], str]
) -> None:
    lines = [line_of(track, "done") for track in range(separate.SHOWN + 7)]
    text = shown(summary_of(tmp_path / "library", lines, done=len(lines)))
    assert text.count("Artist – Song") == separate.SHOWN
    assert "7 more: stemwright reports --library" in text


def test_what_was_there_already_has_its_score_and_stems_in_json(tmp_path: Path) -> None:
    place = tmp_path / "library"
    fill(place, 1)
    summary = summary_of(place, [line_of(0, "already") | {"label": "0.mp3"}], already=1)
    (line,) = with_known(summary, Library(place)).model_dump(mode="json")["tracks"]
    assert (line["verdict"], line["score"], line["status"]) == ("review", 0.5, "already")
    assert line["label"] == "Artist – Song 0"
    folder = place / "tracks" / track_id_of(0) / SEPARATION_ID
    assert line["stems"] == {name: str(folder / f"{name}.flac") for name in STEMS}


def test_one_song_ends_with_the_paths_of_its_stems(
    tmp_path: Path, shown: Callable[[RunSummary], str]
) -> None:
    stems = {"drums": "/library/[a b]/drums.flac", "vocals": "/library/[a b]/vocals.flac"}
    song = line_of(0, "done") | {"stems": stems}
    text = shown(summary_of(tmp_path, [song, song | {"status": "duplicate"}], done=1))
    assert (
        "Stems:\n  drums   /library/[a b]/drums.flac\n  vocals  /library/[a b]/vocals.flac\n"
        in text
    )


def test_many_songs_end_with_how_to_find_one(
    tmp_path: Path, shown: Callable[[RunSummary], str]
) -> None:
    text = shown(summary_of(tmp_path, [line_of(0, "done"), line_of(1, "done")], done=2))
    assert f"Stems:   {tmp_path}/tracks/TRACK_ID/{SEPARATION_ID}\n" in text
    assert f"stemwright reports --paths --library {tmp_path}\n" in text


def test_what_the_figures_mean_is_said_under_them(
    tmp_path: Path, shown: Callable[[RunSummary], str]
) -> None:
    text = shown(summary_of(tmp_path, [line_of(0, "done")], done=1))
    assert text.index("est. SI-SDR") < text.index("SI-SDR says how far")
    assert text.index(" residual ") < text.index("Residual is what")


def test_what_another_engine_made_is_said_to_be_there(
    tmp_path: Path, shown: Callable[[RunSummary], str]
) -> None:
    took_over = line_of(0, "done") | {"separation_id": "htdemucs-89abcdef", "folder": "/a"}
    summary = summary_of(tmp_path, [took_over], done=1)
    summary.provider, summary.by_provider = "stemwright", {"local": 1}
    text = shown(summary)
    assert "tracks/TRACK_ID/htdemucs-89abcdef" in text
    assert "1 separated (1 by this machine), 0 failed." in text
    summary.tracks += summary_of(tmp_path, [line_of(1, "done")]).tracks
    assert "tracks/TRACK_ID/SEPARATION_ID" in shown(summary)


def test_no_track_at_all(tmp_path: Path, shown: Callable[[RunSummary], str]) -> None:
    assert shown(summary_of(tmp_path, [])).strip() == "No tracks found."
