"""docs/page.png: the real page with the embedded ensemble and a generated image, as a browser shows it.

python -m tests.screenshot               (make docs)
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "page.png"
WIDTH, HEIGHT = 1440, 900


def main() -> None:
    """Serve, upload, wait for the verdict, and write the picture."""
    from playwright.sync_api import sync_playwright

    from bus_hf.space.page import build, settings

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here: apt-get install chromium, then run this again")
    page = build(str(ROOT / "checkpoints"))
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, **settings())
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.goto(address)
        tab.wait_for_selector("#upload input[type=file]", state="attached", timeout=60_000)
        tab.set_input_files("#upload input[type=file]", str(ROOT / "examples" / "scan.png"))
        tab.wait_for_selector("#answer .probability", timeout=120_000)
        tab.wait_for_timeout(1500)
        shot = tab.screenshot()
        browser.close()
    page.close()
    # A palette of 128 colours: a third of the size, and no difference to see.
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(128).save(PICTURE, optimize=True)
    print(f"written: {PICTURE.relative_to(ROOT)} ({PICTURE.stat().st_size // 1024} KB)")


if __name__ == "__main__":
    main()
