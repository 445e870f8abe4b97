"""What does the explorer look like? (Draws the picture of docs/explorer.md.)

    python benchmarks/explorer_picture.py docs/images/explorer.png

Needs playwright and a Chromium on PATH.
"""

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from offdiag.report.explorer.page import write_explorer

SIZE = {"width": 1400, "height": 1420}
MOMENT = 650  # of 1000: late in the acceleration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as engine:
        page_file = Path(folder) / "explorer.html"
        write_explorer(page_file)
        browser = engine.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        page = browser.new_context(viewport=SIZE, reduced_motion="reduce").new_page()
        page.goto(page_file.as_uri() + "#axis=events")
        page.wait_for_selector("html[data-ensemble=done]", timeout=120_000)
        page.evaluate(
            """(moment) => {
              const cursor = document.getElementById("cursor");
              cursor.value = String(moment);
              cursor.dispatchEvent(new Event("input"));
            }""",
            MOMENT,
        )
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    # 256 colours are enough for flat ones, and a third of the size.
    small = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(out, optimize=True)


if __name__ == "__main__":
    main()
