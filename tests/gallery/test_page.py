"""What is in the file that `stemwright gallery` writes, before any browser opens it."""

from __future__ import annotations

import base64
import json
import re
import webbrowser
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest

from flows.cli.demo import look_and_listen
from flows.runner.summary import RunSummary, TrackLine
from tasks.errors import SettingsError
from tasks.recording import Library
from tasks.recording.gallery import GalleryOptions, write_gallery, writer
from tasks.recording.gallery.writer import chosen
from tests.cli.conftest import Invoke, document, stemwright
from tests.gallery.studio import folder_of, put, report_of, small_library

__all__ = ["stemwright"]

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"


class Parts(HTMLParser):
    """The addresses that a page names, its scripts, and its JSON."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.data: dict[str, Any] = {}
        self._name: str | None = None
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        self.addresses += [named[key] or "" for key in ("src", "href", "data") if key in named]
        if named.get("type") == "application/json":
            self._name = named.get("id") or named["data-track"]

    def handle_data(self, data: str) -> None:
        if self._name:
            self.data[self._name] = json.loads(data)
            self._name = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        found = self.data["gallery"]
        return [dict(zip(found["fields"], row, strict=True)) for row in found["rows"]]

    @property
    def details(self) -> dict[str, Any]:
        return {name: data for name, data in self.data.items() if name != "gallery"}


def written(library: Library, out: Path, **options: Any) -> Parts:
    write_gallery(library, out, GalleryOptions(**options))
    return Parts(out)


def test_one_file_with_everything_in_it(pages: dict[str, Path]) -> None:
    parts = Parts(pages["embed"])
    assert set(parts.addresses) <= {"data:,", "#", "#tracks"}
    assert [row["title"] for row in parts.rows] == ["Song 1", "Song 2", "Song 3"]
    assert len(parts.details) == 3
    for detail in parts.details.values():
        assert [lane["name"] for lane in detail["lanes"]] == [
            "mixture", "drums", "bass", "other", "vocals",
        ]  # fmt: skip
        for lane in detail["lanes"]:
            assert lane["image"].startswith("data:image/webp;base64,")
            assert lane["audio"].startswith("data:audio/webm;base64,")
            assert len(base64.b64decode(lane["wave"])) > 100
    assert list(pages["embed"].parent.iterdir()) == [pages["embed"]]


def test_the_reasons_and_their_seconds(pages: dict[str, Path]) -> None:
    parts = Parts(pages["embed"])
    detail = parts.details[parts.rows[0]["track_id"]]
    assert [(r["lane"], r["places"], r["when"]) for r in detail["reasons"]] == [
        ("vocals", [[1.0, 2.0]], "0:01 to 0:02"),
        ("mixture", [[2.5, 3.0]], "0:02 to 0:03"),
    ]
    heard = "Some drums can be heard in the vocals stem, worst at 0:01 to 0:02."
    assert detail["reasons"][0]["sentence"] == parts.rows[0]["worst"] == heard
    assert detail["reasons"][0]["measured"] == ["The vocals holds some of the drums."]


def test_links_lead_to_the_library_s_own_files(library: Library, pages: dict[str, Path]) -> None:
    (first, *_) = Parts(pages["link"]).details.values()
    for lane in first["lanes"]:
        assert not lane["audio"].startswith(("/", "file:"))
        file = pages["link"].parent / unquote(lane["audio"])
        assert file.read_bytes()[:4] == b"fLaC"
        assert file.is_relative_to(library.url)


def test_every_file_has_a_link_and_its_path(library: Library, pages: dict[str, Path]) -> None:
    """In a page with the audio in it too: what plays there is a preview."""
    for page in pages.values():
        for detail in Parts(page).details.values():
            for lane in detail["lanes"]:
                file = Path(lane["path"])
                assert file.read_bytes()[:4] == b"fLaC"
                assert file.stem == lane["name"]
                assert (page.parent / unquote(lane["file"])).resolve() == file


def test_the_newest_report_of_each_track(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    put(library, report_of(1, score=0.9, day=0))
    put(library, report_of(1, score=0.4, verdict="review", day=2, separation_id="other-0123abcd"))
    (row,) = written(library, tmp_path / "g.html").rows
    assert (row["score"], row["separation_id"]) == (0.4, "other-0123abcd")


def test_verdict_and_limit(library: Library, tmp_path: Path) -> None:
    def titles(**options: Any) -> list[str]:
        parts = written(library, tmp_path / "g.html", audio="none", pictures=0, **options)
        return [row["title"] for row in parts.rows]

    assert titles(verdict="review") == ["Song 2"]
    assert titles(limit=2) == ["Song 1", "Song 2"]


def test_flagged_tracks_are_shown_in_full_first_then_a_sample() -> None:
    verdicts = ["fail"] * 3 + ["review"] * 2 + ["pass"] * 95
    frame = pd.DataFrame({"verdict": verdicts})
    assert chosen(frame, 200) == list(range(100))
    assert chosen(frame, 4) == [0, 1, 2, 3]
    some = chosen(frame, 24)
    assert some[:5] == [0, 1, 2, 3, 4]
    assert len(some) == len(set(some)) == 24
    assert some[-1] > 90


def test_strangers_words_stay_words(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    report = report_of(1, title=HOSTILE, artist=HOSTILE, genre="$\\frac{" + HOSTILE, model=HOSTILE)
    put(library, report)
    clean = put(Library(tmp_path / "clean"), report_of(1))
    parts = written(library, tmp_path / "g.html")
    harmless = written(Library(tmp_path / "clean"), tmp_path / "h.html")
    assert parts.rows[0]["title"] == HOSTILE
    assert parts.rows[0]["track_id"] == clean.track_id
    assert parts.tags.count("script") == harmless.tags.count("script")
    assert parts.tags.count("img") == 0
    text = (tmp_path / "g.html").read_text("utf-8")
    assert "<script>alert" not in text
    assert "{{ 7*7 }}" in text.replace("\\u0027", "'")


def test_a_missing_and_a_broken_stem_leave_a_note(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    folder = folder_of(library, put(library, report_of(1)))
    (folder / "bass.flac").unlink()
    (folder / "drums.flac").write_bytes(b"fLaC no more")
    (detail,) = written(library, tmp_path / "g.html").details.values()
    lanes = {lane["name"]: lane for lane in detail["lanes"]}
    assert lanes["bass"]["problem"] == "bass.flac is missing."
    assert lanes["drums"]["problem"] == "drums.flac is broken."
    assert "image" not in lanes["bass"]
    assert lanes["vocals"]["image"]
    assert lanes["vocals"]["problem"] == ""


def test_a_damaged_report_is_left_out_and_named(tmp_path: Path) -> None:
    library = small_library(tmp_path / "library")
    damaged = next((tmp_path / "library").glob("tracks/*/*/report.json"))
    damaged.write_text("{")
    done = write_gallery(library, options=GalleryOptions(audio="none"))
    assert (done.tracks, done.pictured) == (3, 2)
    assert done.unreadable == (f"{damaged.parent.parent.name}/{damaged.parent.name}",)


def test_auto_embeds_a_little_and_links_much(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = GalleryOptions(pictures=1)
    assert write_gallery(library, tmp_path / "g.html", one).audio == "embed"
    monkeypatch.setattr(writer, "EMBEDDED_BYTES", 1000)
    assert write_gallery(library, tmp_path / "g.html", one).audio == "link"


def test_a_library_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = small_library("memory://gallery/library")
    (first, *_) = written(library, tmp_path / "g.html").details.values()
    assert all(lane["image"] and lane["audio"].startswith("data:") for lane in first["lanes"])
    assert all(lane["path"].startswith("memory://gallery/") for lane in first["lanes"])
    assert {lane["file"] for lane in first["lanes"]} == {""}
    with pytest.raises(SettingsError, match="object store"):
        write_gallery(library, tmp_path / "g.html", GalleryOptions(audio="link"))
    monkeypatch.setattr(writer, "EMBEDDED_BYTES", 1000)
    assert write_gallery(library, tmp_path / "g.html").audio == "none"


def test_many_tracks_have_files_beside_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "INLINE_TRACKS", 2)
    library = small_library(tmp_path / "library")
    done = write_gallery(library, options=GalleryOptions(audio="link"))
    beside = tmp_path / "library" / "gallery_files"
    assert done.side_files == len(list(beside.iterdir())) == 3
    assert done.bytes == done.path.stat().st_size + sum(
        file.stat().st_size for file in beside.iterdir()
    )
    parts = Parts(done.path)
    assert parts.details == {}
    assert sorted(parts.data["gallery"]["sides"].values()) == sorted(
        f"gallery_files/{file.name}" for file in beside.iterdir()
    )


def test_files_beside_the_page_are_kept_renewed_and_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "INLINE_TRACKS", 2)
    library = small_library(tmp_path / "library")
    options = GalleryOptions(audio="none")
    write_gallery(library, options=options)
    beside = tmp_path / "library" / "gallery_files"
    (beside / "notes.txt").write_text("mine")
    before = {file.name: file.stat().st_ino for file in beside.glob("*.js")}
    again = report_of(1, verdict="pass", score=0.95, day=3, separation_id="newer-0123abcd")
    put(library, again)
    write_gallery(library, options=options)
    after = {file.name: file.stat().st_ino for file in beside.glob("*.js")}
    kept = set(before) & set(after)
    assert len(kept) == 2
    assert len(after) == 3
    assert {name: before[name] for name in kept} == {name: after[name] for name in kept}
    monkeypatch.undo()
    write_gallery(library, options=options)
    assert [file.name for file in beside.iterdir()] == ["notes.txt"]


def test_an_empty_library_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    parts = written(Library(tmp_path / "library"), tmp_path / "g.html")
    assert parts.rows == []


def test_a_place_that_can_t_be_written(library: Library, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="can't be written") as caught:
        write_gallery(library, tmp_path / "file" / "g.html", GalleryOptions(audio="none"))
    assert "--out" in caught.value.remedy


def test_a_title_with_no_unicode_form(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    put(library, report_of(1, title="caf\udce9 ✓"))
    (row,) = written(library, tmp_path / "g.html", audio="none").rows
    assert row["title"].endswith("✓")


def test_the_command_says_what_it_wrote(stemwright: Invoke, library: Library) -> None:
    done = document(stemwright("gallery", "--library", library.url, "--out", "here.html", "--json"))
    assert Path(done["path"]).name == "here.html"
    assert (done["tracks"], done["pictured"], done["audio"]) == (3, 3, "embed")
    assert done["bytes"] == Path(done["path"]).stat().st_size
    assert done["library"] == library.url
    said = stemwright("gallery", "--library", library.url, "--verdict", "fail", "--out", "f.html")
    assert re.search(r"1 track, 1 with pictures, with audio; \d", said.stdout)
    assert "f.html" in said.stdout


@pytest.fixture
def browser_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A browser that writes down what it is to show; returns where."""
    seen, program = tmp_path / "seen", tmp_path / "browser"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > "{seen}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(webbrowser, "_browsers", {})
    monkeypatch.setattr(webbrowser, "_tryorder", [])
    webbrowser.register("ours", None, webbrowser.GenericBrowser([str(program), "%s"]))
    return seen


def test_open_shows_the_page_in_a_browser(
    stemwright: Invoke, library: Library, browser_of_ours: Path
) -> None:
    made = stemwright("gallery", "--library", library.url, "--out", "a b.html", "--open", "--json")
    assert browser_of_ours.read_text() == Path(document(made)["path"]).as_uri()


def test_without_a_browser_the_page_is_there_all_the_same(
    stemwright: Invoke, library: Library, browser_of_ours: Path
) -> None:
    browser_of_ours.with_name("browser").unlink()
    made = stemwright("gallery", "--library", library.url, "--out", "g.html", "--open")
    assert made.exit_code == 0
    assert "no browser: " in made.stderr
    assert Path("g.html").is_file()


def test_the_page_is_in_the_library_by_default(stemwright: Invoke, tmp_path: Path) -> None:
    small_library(tmp_path / "library")
    done = document(stemwright("gallery", "--audio", "none", "--limit", "1", "--json"))
    assert Path(done["path"]) == tmp_path / "library" / "gallery.html"
    assert done["tracks"] == 1


def test_no_library_there(stemwright: Invoke, tmp_path: Path) -> None:
    refused = stemwright("gallery", "--library", tmp_path / "none", "--json")
    assert refused.exit_code == 2
    assert "no library" in document(refused)["error"]["message"]
    assert not (tmp_path / "none").exists()


def test_the_demo_ends_with_a_gallery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = small_library(tmp_path / "library")
    row = library.tracks().iloc[0]
    line = TrackLine(
        source=row["source"],
        label="Band – Song 1",
        status="done",
        folder=library.folder(row["track_id"], row["separation_id"]),
    )
    summary = RunSummary(
        library=library.url,
        run_id="run",
        separation_id=row["separation_id"],
        model="embedded",
        engine="local_cpu",
        device="cpu",
        reasons=[],
        tracks=[line],
    )
    look_and_listen(summary)
    assert len(Parts(tmp_path / "library" / "gallery.html").rows) == 3
    said = capsys.readouterr().out.replace("\n", "")
    assert f"Gallery: {library.url}/gallery.html" in said
    assert "hear a stem:" in said


def test_a_separation_that_lost_a_stem_is_told_of(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    _, lost = put(library, report_of(1)), put(library, report_of(2))
    folder = Path(library.folder(lost.track_id, lost.separation_id))
    (folder / "bass.flac").unlink()
    written = write_gallery(library, tmp_path / "page.html")
    assert (written.tracks, written.lost) == (2, (str(folder),))
