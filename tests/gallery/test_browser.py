"""The gallery as Chromium shows it: nothing asked of a network, nothing said on the console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.recording import Library
from tasks.recording.gallery import GalleryOptions, write_gallery, writer
from tests.gallery.conftest import Open
from tests.gallery.studio import SECONDS, folder_of, put, report_of, small_library
from tests.gallery.test_page import HOSTILE
from tests.recording.factory import track_id_of

PLAYER = "stemwright.view.player"
HOW = ["embed", "link"]


def titles(page: Any) -> list[str]:
    found: list[str] = page.locator("tbody tr th a").all_inner_texts()
    return found


def until(page: Any, condition: str) -> None:
    """Wait for a condition; Playwright's own way is an `eval`, which the page's policy refuses."""
    for _ in range(600):
        if page.evaluate(f"Boolean({condition})"):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{condition} never came true")


def open_first(page: Any) -> None:
    page.locator("tbody tr th a").first.click()
    page.locator(".lane").nth(5).wait_for()


def start(page: Any) -> None:
    page.get_by_role("button", name="Play").click()
    until(page, f"{PLAYER}.playing && {PLAYER}.time() > 0.1")


def gains(page: Any) -> dict[str, float]:
    found: dict[str, float] = page.evaluate(
        f"Object.fromEntries({PLAYER}.names.map((name) => [name, {PLAYER}.engine.gain(name)]))"
    )
    return found


def seconds(page: Any) -> float:
    return float(page.evaluate(f"{PLAYER}.time()"))


# --- the list -------------------------------------------------------------------------------------


def test_the_list_shows_every_track_worst_first(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    assert titles(page) == ["Song 1", "Song 2", "Song 3"]
    assert page.locator("#count").inner_text() == "3 tracks"
    assert "a #1 library" in page.title()
    row = page.locator("tbody tr").first.inner_text()
    assert all(
        word in row for word in ("poor", "0.20", "2.0 dB", "Some drums can be heard", "0:04")
    )
    assert page.locator("figure[role=img] svg").count() == 2
    assert "Rock: median" in page.locator("figure").nth(1).get_attribute("aria-label")


def test_a_heading_sorts_and_says_so(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    heading = page.get_by_role("columnheader", name="Score")
    assert heading.get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="Score").click()
    assert titles(page) == ["Song 3", "Song 2", "Song 1"]
    assert heading.get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="Genre").press("Enter")
    assert titles(page)[0] == "Song 2"
    assert heading.get_attribute("aria-sort") == "none"
    page.get_by_role("button", name="Quality").click()
    assert titles(page) == ["Song 1", "Song 2", "Song 3"]


def test_filters(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    page.locator("#verdict").select_option("review")
    assert titles(page) == ["Song 2"]
    assert page.locator("#count").inner_text() == "1 of 3 tracks"
    page.get_by_role("button", name="Clear").click()
    until(page, "document.querySelectorAll('tbody tr').length === 3")
    page.locator("#genre").select_option("Rock")
    assert titles(page) == ["Song 1", "Song 3"]
    page.locator("#low").fill("0.5")
    assert titles(page) == ["Song 3"]
    page.get_by_role("button", name="Clear").click()
    until(page, "document.querySelectorAll('tbody tr').length === 3")
    page.locator("#model").select_option("embedded")
    assert titles(page) == ["Song 2"]
    page.locator("#model").select_option("")
    page.get_by_label("Search").fill("quartet SONG")
    assert titles(page) == ["Song 3"]
    page.get_by_label("Search").fill("bleed drums")
    assert titles(page) == ["Song 1"]
    page.get_by_label("Search").fill("nothing such")
    assert titles(page) == []


def test_two_thousand_tracks(opened: Open, tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    one = report_of(0)
    reports = [
        one.model_copy(
            update={
                "track_id": track_id_of(n),
                "title": f"Song {n}",
                "genre": f"Genre {n % 40}",
                "quality": one.quality.model_copy(update={"score": n / 2000}),
            }
        )
        for n in range(2000)
    ]
    library.write_rows(reports)
    done = write_gallery(library, options=GalleryOptions(pictures=0))
    page = opened(done.path)
    assert page.locator("#count").inner_text() == "2,000 tracks"
    assert page.locator("tbody tr").count() == 50
    assert page.locator("#page-number").inner_text() == "Page 1 of 40"
    page.get_by_role("button", name="Next").click()
    assert titles(page)[0] == "Song 50"
    assert page.evaluate("document.activeElement.textContent") == "Song 50"
    page.locator("#genre").select_option("Genre 7")
    assert page.locator("#count").inner_text() == "50 of 2,000 tracks"
    page.get_by_label("Search").fill("song 1007")
    assert titles(page) == ["Song 1007"]
    page.locator("tbody a").click()
    page.get_by_text("This track has no pictures here").wait_for()


# --- a track --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
def test_play_is_heard_and_goes_on(opened: Open, pages: dict[str, Path], how: str) -> None:
    page = opened(pages[how])
    open_first(page)
    kind = page.evaluate(f"{PLAYER}.engine.constructor.name")
    assert kind == {"embed": "BufferEngine", "link": "ElementEngine"}[how]
    start(page)
    at = seconds(page)
    until(page, f"{PLAYER}.time() > {at + 0.3}")
    assert float(page.evaluate("stemwright.view.element.style.getPropertyValue('--at')")) > 0
    page.get_by_role("button", name="Pause").click()
    paused = seconds(page)
    page.wait_for_timeout(150)
    assert seconds(page) == paused


def test_it_stops_at_the_end_and_starts_anew(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    open_first(page)
    page.evaluate(f"{PLAYER}.seek({SECONDS - 0.2})")
    page.get_by_role("button", name="Play").click()
    until(page, f"!{PLAYER}.playing && !{PLAYER}.busy")
    assert seconds(page) == pytest.approx(SECONDS, abs=0.05)
    start(page)
    assert seconds(page) < SECONDS - 0.5


@pytest.mark.parametrize("how", HOW)
def test_solo_and_mute(opened: Open, pages: dict[str, Path], how: str) -> None:
    page = opened(pages[how])
    open_first(page)
    start(page)
    stems = {"drums": 1, "bass": 1, "other": 1, "vocals": 1}
    assert gains(page) == {"mixture": 0} | stems
    solo = page.get_by_role("button", name="Solo vocals")
    solo.click()
    assert solo.get_attribute("aria-pressed") == "true"
    assert gains(page) == {"mixture": 0} | dict.fromkeys(stems, 0) | {"vocals": 1}
    assert page.locator(".hearing").inner_text().endswith("vocals")
    page.get_by_role("button", name="Solo mixture").click()
    assert gains(page) == dict.fromkeys(stems, 0) | {"vocals": 1, "mixture": 1}
    page.get_by_role("button", name="Solo mixture").click()
    solo.click()
    page.get_by_role("button", name="Mute bass").click()
    assert gains(page) == {"mixture": 0} | stems | {"bass": 0}


def test_what_is_muted_is_silent(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    open_first(page)
    start(page)
    page.get_by_role("button", name="Solo bass").click()
    node = f"{PLAYER}.engine.nodes.get"
    until(page, f"{node}('vocals').gain.value < 0.001")
    assert page.evaluate(f"{node}('bass').gain.value") > 0.99


@pytest.mark.parametrize("how", HOW)
def test_all_signals_go_where_the_time_line_is_clicked(
    opened: Open, pages: dict[str, Path], how: str
) -> None:
    page = opened(pages[how])
    open_first(page)
    start(page)
    box = page.locator(".spectrum").nth(2).bounding_box()
    page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 20)
    until(page, f"{PLAYER}.time() > {0.4 * SECONDS}")
    page.wait_for_timeout(400)
    assert 0.4 * SECONDS < seconds(page) < 0.4 * SECONDS + 1.9
    positions = page.evaluate(f"{PLAYER}.engine.positions()")
    assert len(positions) == 5
    assert max(positions) - min(positions) < 0.08


def test_embedded_signals_have_the_same_length_to_the_sample(
    opened: Open, pages: dict[str, Path]
) -> None:
    page = opened(pages["embed"])
    open_first(page)
    start(page)
    lengths = page.evaluate(f"[...{PLAYER}.engine.buffers.values()].map((b) => b.length)")
    assert len(set(lengths)) == 1
    starts = page.evaluate(f"{PLAYER}.engine.playing.length")
    assert starts == 5


def test_the_estimate_comes_with_its_interval(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    open_first(page)
    facts = page.locator("#track-facts").inner_text()
    assert "score 0.20, estimated SI-SDR 2.0 dB (likely −2 to 5)" in facts


def test_the_files_can_be_fetched_and_are_named_by_their_paths(
    opened: Open, pages: dict[str, Path], library: Library
) -> None:
    page = opened(pages["embed"])
    open_first(page)
    link = page.get_by_role("link", name="Download vocals.flac")
    row = library.stems().set_index("stem").loc["vocals"].iloc[0]
    path = Path(library.url) / row["path"]
    assert link.evaluate("(a) => a.href") == path.as_uri()
    assert link.get_attribute("download") == "vocals.flac"
    assert page.locator(".file code").nth(4).inner_text() == str(path)


def test_the_figures_are_explained_where_they_are(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    open_first(page)
    explained = page.locator(".explained").inner_text()
    assert all(word in explained for word in ("SI-SDR says", "Residual is", "Score is", "poor is"))
    assert "worst at 0:01 to 0:02" in page.locator("[data-lane=vocals] .worst").inner_text()


def test_columns_of_numbers_have_their_headings_over_them(
    opened: Open, pages: dict[str, Path]
) -> None:
    page = opened(pages["embed"])
    for column in ("c-length", "c-score", "c-sdr"):
        ends = page.evaluate(
            f"""() => ['thead .{column} button', 'tbody .{column}'].map((what) => {{
                const range = document.createRange();
                range.selectNodeContents(document.querySelector(what));
                return range.getBoundingClientRect().right;
            }})"""
        )
        assert abs(ends[0] - ends[1]) < 1.5, column


def test_a_reason_leads_to_its_passage(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    open_first(page)
    assert page.locator("[data-lane=vocals] .mark").count() == 2  # in waveform and spectrogram
    assert page.locator("[data-lane=mixture] .mark").count() == 2
    left = page.locator("[data-lane=vocals] .mark").first.evaluate("(m) => m.style.left")
    assert float(left.rstrip("%")) == pytest.approx(100 * 1.0 / SECONDS)
    page.get_by_role("button", name="Listen to vocals from 0:01 to 0:02").click()
    until(page, f"{PLAYER}.playing")
    assert 0.7 <= seconds(page) < 2
    assert gains(page) == {"mixture": 0, "drums": 0, "bass": 0, "other": 0, "vocals": 1}


def test_the_keyboard_is_enough(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('tbody') !== null"):
            break
    page.keyboard.press("Enter")
    page.locator(".lane").nth(5).wait_for()
    assert page.evaluate("document.activeElement.id") == "track-title"
    page.keyboard.press(" ")
    until(page, f"{PLAYER}.playing")
    page.keyboard.press(" ")
    until(page, f"!{PLAYER}.playing")
    page.keyboard.press("1")
    assert gains(page)["drums"] == 1
    assert gains(page)["bass"] == 0
    slider = page.get_by_role("slider", name="Position in the track")
    slider.press("Home")
    slider.press("ArrowUp")
    slider.press("ArrowUp")
    assert seconds(page) == pytest.approx(2)
    assert slider.get_attribute("aria-valuetext") == "0:02 of 0:04"
    slider.press("End")
    assert seconds(page) == pytest.approx(SECONDS)
    page.keyboard.press("n")
    page.get_by_role("heading", name="Song 2").wait_for()
    page.keyboard.press("p")
    page.get_by_role("heading", name="Song 1").wait_for()
    page.keyboard.press("Escape")
    page.locator("#list").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Song 1"


def test_a_space_on_a_button_is_the_button_s(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    open_first(page)
    mute = page.get_by_role("button", name="Mute drums")
    mute.press(" ")
    assert mute.get_attribute("aria-pressed") == "true"
    assert not page.evaluate(f"{PLAYER}.playing")


def test_leaving_a_track_ends_its_sound(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    open_first(page)
    start(page)
    page.evaluate(f"globalThis.left = {PLAYER}")
    page.get_by_role("button", name="Next →").click()
    page.get_by_role("heading", name="Song 2").wait_for()
    assert page.evaluate("left.engine.context.state") == "closed"
    page.go_back()
    page.get_by_role("heading", name="Song 1").wait_for()


def test_an_address_leads_straight_to_a_track(
    opened: Open, pages: dict[str, Path], library: Library
) -> None:
    track_id = library.tracks().set_index("title").loc["Song 2", "track_id"]
    page = opened(pages["embed"], f"#/{track_id}")
    page.get_by_role("heading", name="Song 2").wait_for()
    assert not page.locator("#list").is_visible()


def test_files_beside_the_page_are_loaded_when_they_are_wanted(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "INLINE_TRACKS", 1)
    library = small_library(tmp_path / "library")
    done = write_gallery(library, options=GalleryOptions(audio="link"))
    page = opened(done.path)
    open_first(page)
    start(page)
    assert page.locator(".spectrum img").first.evaluate("(i) => i.naturalWidth") > 100


def test_a_track_with_broken_stems_still_plays_the_others(opened: Open, tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    folder = folder_of(library, put(library, report_of(1)))
    (folder / "bass.flac").unlink()
    done = write_gallery(library)
    page = opened(done.path)
    open_first(page)
    assert "bass.flac is missing" in page.locator("[data-lane=bass]").inner_text()
    start(page)
    assert set(gains(page)) == {"mixture", "drums", "other", "vocals"}


def test_strangers_words_are_shown_and_run_nothing(opened: Open, tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    put(library, report_of(1, title=HOSTILE, artist=HOSTILE, genre=HOSTILE, model=HOSTILE))
    page = opened(write_gallery(library).path)
    assert titles(page) == [HOSTILE]
    open_first(page)
    assert page.locator("#track-title").inner_text() == HOSTILE
    assert page.locator("img").count() == 5  # the spectrograms


def test_the_policy_stops_what_would_leave_the_page(opened: Open, pages: dict[str, Path]) -> None:
    page = opened(pages["embed"])
    page.evaluate(
        """() => {
            globalThis.refused = [];
            addEventListener('securitypolicyviolation', (e) => refused.push(e.effectiveDirective));
            fetch('http://127.0.0.1:9/').catch(() => {});
            const image = new Image();
            image.src = 'http://127.0.0.1:9/';
            const button = document.createElement('button');
            button.setAttribute('onclick', 'globalThis.hacked = true');
            document.body.append(image, button);
            button.click();
        }"""
    )
    until(page, "refused.length >= 3")
    assert set(page.evaluate("refused")) == {"connect-src", "img-src", "script-src-attr"}
    assert page.evaluate("globalThis.hacked") is None
    opened.said.clear()


# --- how it looks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens_need_no_sideways_scroll(
    opened: Open, pages: dict[str, Path], width: int
) -> None:
    page = opened(pages["embed"], viewport={"width": width, "height": 780}, has_touch=True)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    open_first(page)
    assert page.evaluate(fits)
    small = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter((e) => e.offsetParent"
        " && e.getBoundingClientRect().height < 24).length"
    )
    assert small == 0


CONTRAST = """() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue(name).trim();
    const part = (at) => {
      const value = parseInt(hex.slice(at, at + 2), 16) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    };
    return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
  };
  const ratio = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const pairs = [['--on-accent', '--accent'], ['--paper', '--ink']];
  for (const ink of ['--ink', '--muted', '--accent', '--pass', '--review', '--fail'])
    for (const ground of ['--paper', '--panel', '--soft']) pairs.push([ink, ground]);
  return Object.fromEntries(pairs.map(([a, b]) => [`${a} on ${b}`, ratio(a, b)]));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(
    opened: Open, pages: dict[str, Path], scheme: str
) -> None:
    page = opened(pages["embed"], color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(250, 249, 246)") == (scheme == "light")
    ratios = page.evaluate(CONTRAST)
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}  # WCAG AA
