"""Makes anew what the README shows of the demo: its output, and the picture of its gallery.

Run `python -m tests.benchmarks.readme` from the repository's root after a change of what the demo
prints. `tests/test_readme.py` holds the README to it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.results import ROOT

README = ROOT / "README.md"
PICTURE = ROOT / "deployments" / "images" / "gallery.png"
SHOWN_IN = "~/stemwright"
"""Stands for the folder that the demo was run in."""
BLOCK = re.compile(r"(?<=```\n\$ make demo\n).*?(?=```)", re.DOTALL)


def demo_output(folder: Path) -> str:
    """Run the demo in an empty folder and return what it prints, as a pipe gets it."""
    command = [Path(sys.executable).with_name("stemwright"), "demo"]
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    output = done.stdout.replace(str(folder), SHOWN_IN)
    # That another run had to be waited for says nothing of the demo.
    lines = (line.rstrip() for line in output.splitlines() if not line.startswith("info: "))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def picture_of(gallery: Path, picture: Path) -> None:
    """Take a picture of the gallery's first track, the worst."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 780})
        page.goto(gallery.as_uri())
        page.locator("tbody tr th a").first.click()
        page.locator(".lane").nth(5).wait_for()
        page.screenshot(path=picture)
        browser.close()
    with Image.open(picture) as drawn:
        drawn.convert("RGB").quantize(256).save(picture, optimize=True)


def main() -> None:
    """Write the block of the README and the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        output = demo_output(folder)
        picture_of(folder / "library" / "gallery.html", PICTURE)
    print(output)
    README.write_text(BLOCK.sub(lambda _: output, README.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
