"""A gallery of two models: each track has both on one time line, with a switch between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import SettingsError
from tasks.recording import Library
from tasks.recording.gallery import GalleryOptions, write_gallery, writer
from tests.gallery.conftest import Open
from tests.gallery.studio import put, reason, report_of
from tests.gallery.test_browser import PLAYER, gains, open_first, seconds, start, titles, until

ONE, TWO = "htdemucs", "htdemucs_ft"


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Songs 1 and 2 by both models, song 3 by one; of song 1 the second has a fault."""
    library = Library(tmp_path_factory.mktemp("two") / "library")
    second = {"separation_id": f"{TWO}-89abcdef", "model": TWO, "day": 1}
    fault = (reason("vocals", 1.0, 2.0),)
    for number in (1, 2, 3):
        put(library, report_of(number, score=0.6, model=ONE, seconds=2.0))
    put(library, report_of(1, score=0.2, verdict="fail", details=fault, seconds=2.0, **second))
    put(library, report_of(2, score=0.9, seconds=2.0, **second))
    return library


def written(library: Library, out: Path, audio: str) -> Path:
    options = GalleryOptions(audio=audio, compare=(ONE, TWO))  # type: ignore[arg-type]
    made = write_gallery(library, out, options)
    assert (made.tracks, made.pictured) == (2, 2)
    return made.path


@pytest.mark.parametrize("audio", ["embed", "link"])
def test_the_switch_changes_what_is_heard_and_keeps_the_position(
    opened: Open, two_models: Library, tmp_path: Path, audio: str
) -> None:
    # A link leads to the library's own files from wherever the page is.
    page = opened(written(two_models, Path(two_models.url) / f"{audio}.html", audio))
    assert titles(page) == ["Song 1", "Song 2"]
    assert f"{TWO} beside {ONE}" in page.locator("header.top").inner_text()
    open_first(page)
    names = page.locator(".lane[data-lane]").evaluate_all("all => all.map(one => one.dataset.lane)")
    assert names[0] == "mixture"
    assert [f"drums, {ONE}", f"drums, {TWO}"] in [names[at : at + 2] for at in range(1, 9, 2)]
    start(page)
    assert {name for name, gain in gains(page).items() if gain} == {
        name for name in names if name.endswith(f", {ONE}")
    }
    page.evaluate("globalThis.before = stemwright.view.player.time()")
    page.get_by_role("button", name=f"Hear {TWO}").click()
    assert {name for name, gain in gains(page).items() if gain} == {
        name for name in names if name.endswith(f", {TWO}")
    }
    assert page.evaluate(f"{PLAYER}.playing")
    assert page.evaluate("stemwright.view.player.time() >= before")
    assert f"all stems of {TWO}" in page.locator(".hearing").inner_text()
    page.get_by_role("button", name="Pause").click()
    page.evaluate(f"{PLAYER}.seek(1.25)")
    page.keyboard.press("x")
    assert seconds(page) == pytest.approx(1.25)
    assert (
        page.get_by_role("button", name=f"Hear {ONE}", exact=True).get_attribute("aria-pressed")
        == "true"
    )


def test_solo_and_mute_hold_for_both(opened: Open, two_models: Library, tmp_path: Path) -> None:
    page = opened(written(two_models, tmp_path / "both.html", "embed"))
    open_first(page)
    page.get_by_role("button", name=f"Solo vocals, {ONE}", exact=True).click()
    assert {name for name, gain in gains(page).items() if gain} == {f"vocals, {ONE}"}
    page.keyboard.press("x")
    assert {name for name, gain in gains(page).items() if gain} == {f"vocals, {TWO}"}
    pressed = page.locator("button[aria-label^='Solo vocals']").evaluate_all(
        "all => all.map(one => one.getAttribute('aria-pressed'))"
    )
    assert pressed == ["true", "true"]
    page.keyboard.press("0")
    page.get_by_role("button", name=f"Solo vocals, {TWO}").click()
    assert {name for name, gain in gains(page).items() if gain} == {"mixture"}
    page.get_by_role("button", name=f"Solo vocals, {ONE}", exact=True).click()
    assert {name for name, gain in gains(page).items() if gain} == {"mixture", f"vocals, {ONE}"}


def test_what_is_heard_says_of_which(opened: Open, two_models: Library, tmp_path: Path) -> None:
    page = opened(written(two_models, tmp_path / "heard.html", "embed"))
    open_first(page)
    assert page.locator(f"[data-lane='vocals, {TWO}'] .mark").count() == 2
    assert page.locator(f"[data-lane='vocals, {ONE}'] .mark").count() == 0
    assert page.locator(".findings .what").first.inner_text().startswith(f"{TWO}: ")
    page.locator(".listen").first.click()
    until(page, f"{PLAYER}.playing")
    assert {name for name, gain in gains(page).items() if gain} == {f"vocals, {TWO}"}


def test_many_tracks_are_beside_the_page(
    opened: Open, two_models: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "INLINE_TRACKS", 1)
    page = opened(written(two_models, tmp_path / "many.html", "embed"))
    open_first(page)
    assert page.locator(".lane[data-lane]").count() == 9


def test_two_that_cannot_be_compared_are_named(two_models: Library, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no separation by mdx"):
        write_gallery(two_models, tmp_path / "x.html", GalleryOptions(compare=(ONE, "mdx")))
    assert not (tmp_path / "x.html").exists()
