"""A small library, and a headless Chromium that fails a test for what its console says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.recording import Library
from tasks.recording.gallery import GalleryOptions, write_gallery
from tests.gallery.studio import small_library

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    # Names that have to be escaped in a link.
    return small_library(tmp_path_factory.mktemp("gallery") / "a #1 library")


@pytest.fixture(scope="session")
def pages(library: Library, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small library's page with audio in it, and with links to the library's files."""
    beside = Path(library.url) / "linked.html"
    inside = tmp_path_factory.mktemp("pages") / "embedded.html"
    write_gallery(library, beside, GalleryOptions(audio="link"))
    write_gallery(library, inside, GalleryOptions(audio="embed"))
    return {"link": beside, "embed": inside}


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    found = found or shutil.which("google-chrome")
    if found:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("CI has to look at the gallery: install Chromium.")
    pytest.skip("there is no Chromium here to look at the gallery with")


# Not for the session: while Playwright runs, this thread can run no other event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = _chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield running
        running.close()


Open = Any
"""`opened`: called with a page and perhaps an anchor; `said` holds the complaints so far."""


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens a page from the disk. At the end: no complaint, and nothing asked of a network."""
    said: list[str] = []
    contexts = []

    def open_page(path: Path, anchor: str = "", **context: Any) -> Any:
        made = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context)
        contexts.append(made)
        page = made.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:", "blob:"))
                else said.append(f"asked for {request.url}")
            ),
        )
        page.goto(path.as_uri() + anchor)
        return page

    open_page.said = said  # type: ignore[attr-defined]
    yield open_page
    for context in contexts:
        context.close()
    complaints, said[:] = list(said), []
    assert complaints == []
