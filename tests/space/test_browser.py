"""The page as a person meets it, in headless Chromium, on a real server with a tiny ensemble."""

import base64
import os
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bus_hf.data.images import Scan
from bus_hf.data.phantoms import phantom
from bus_hf.space.state import State
from bus_hf.space.uploads import OLDEST, SILENT
from tests.space.conftest import Clock

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)")


@pytest.fixture(scope="module")
def ensemble(tiny_ensemble, tmp_path_factory):
    return ensemble_folder(tiny_ensemble, tmp_path_factory.mktemp("shipped") / "ensemble")


@contextmanager
def served(ensemble, state):
    from bus_hf.space.page import build, settings

    page = build(str(ensemble), state=state)
    _, url, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, **settings(state=state))
    yield url
    page.close()


@pytest.fixture(scope="module")
def address(ensemble, state):
    with served(ensemble, state) as url:
        yield url


def ensemble_folder(tiny_ensemble, folder):
    """The tiny ensemble with the shipped figures beside it, so that the tab about it has its tables."""
    shutil.copytree(tiny_ensemble, folder)
    shutil.copy(ROOT / "checkpoints" / "report.json", folder)
    shutil.copytree(ROOT / "checkpoints" / "plots", folder / "plots")
    return folder


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(params=[390, 1440], ids=["phone", "desktop"])
def tab(browser, address, request):
    size = {"width": request.param, "height": 900}
    context = browser.new_context(viewport=size, screen=size, has_touch=request.param < 500)
    tab = context.new_page()
    problems = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.goto(address)
    tab.wait_for_selector("#upload input[type=file]", state="attached", timeout=30_000)
    yield tab
    context.close()
    assert not problems


def test_the_operating_points_fit_their_field(tab):
    field = tab.locator("#point input")
    assert field.input_value() == "95 % of cancers, 70 % of others"
    # The arrow stands over the end of the field.
    width = """field => {
        const brush = document.createElement("canvas").getContext("2d");
        brush.font = getComputedStyle(field).font;
        return [brush.measureText(field.value).width, field.clientWidth];
    }"""
    text, room = field.evaluate(width)
    assert text + 30 < room
    assert "among the images it was measured on, with all members" in tab.inner_text("#point")


def test_the_light_choice_says_whose_rates_it_shows(tab, scan):
    tab.get_by_label("Light: one network, quicker").check()
    read_with_a_box(tab, scan)
    assert "(measured with all members, not with the light one alone)" in tab.inner_text("#answer")


def fits(tab):
    """Whether nothing is wider than the screen."""
    return tab.evaluate("document.documentElement.scrollWidth <= screen.width + 1")


def upload(tab, path):
    tab.set_input_files("#upload input[type=file]", str(path))


def read_with_a_box(tab, path):
    """Upload an image and read it with a box, since these networks find none."""
    upload(tab, path)
    tab.wait_for_selector("#answer .probability", timeout=30_000)
    tab.fill("#roi input, #roi textarea", "10, 20, 100, 90")
    tab.click("#again")
    tab.wait_for_selector("#answer >> text=box that you drew", timeout=30_000)


def test_upload_gives_verdict_box_and_heat_map(tab, scan):
    upload(tab, scan)
    tab.wait_for_selector("#answer .probability", timeout=30_000)
    text = tab.inner_text("#answer")
    assert "probability of malignancy" in text
    assert any(word in text for word in ("Suspicious", "No sign", "Not sure"))
    assert "test_resnet" in text
    assert tab.locator("#scan img.heat").count() == 1
    assert fits(tab)
    slider = tab.locator("#scan input[type=range]")
    slider.focus()
    before = tab.evaluate("getComputedStyle(document.querySelector('#scan .heat')).opacity")
    slider.press("End")
    assert before != tab.evaluate("getComputedStyle(document.querySelector('#scan .heat')).opacity") == "1"


def test_three_uploads_in_a_row_with_a_bad_one_in_the_middle(tab, scan, tmp_path, left):
    bad = tmp_path / "letter.png"
    bad.write_text("just text")
    other = tmp_path / "other.png"
    Image.fromarray(phantom(np.random.default_rng(9), "benign", (200, 300))[0]).save(other)

    def first_reading():
        return tab.locator("#scan .scan").get_attribute("data-width")

    upload(tab, scan)
    tab.wait_for_selector("#answer .probability", timeout=30_000)
    assert first_reading() == "320"
    upload(tab, bad)
    tab.wait_for_selector("#answer [role=alert]", timeout=30_000)
    assert "letter.png" in tab.inner_text("#answer")
    assert tab.locator("#answer .probability").count() == 0
    # Nothing of the first patient is left beside the second one's error.
    assert tab.locator("#scan .scan").count() == 0
    upload(tab, other)
    tab.wait_for_selector("#answer .probability", timeout=30_000)
    assert first_reading() == "300"
    assert tab.locator("#answer [role=alert]").count() == 0
    # The same file once more is a new reading too.
    upload(tab, scan)
    tab.wait_for_selector("#scan .scan[data-width='320']", timeout=30_000)
    assert tab.get_by_text("Error", exact=True).count() == 0
    assert not left()


@pytest.fixture
def left(state):
    """Return a function that lists files in Gradio's folder, or counts the uploads that are still kept."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    return lambda: [path for path in folder.rglob("*") if path.is_file()] or len(state.uploads)


def test_a_new_reading_first_clears_the_old_one(tab, scan, monkeypatch):
    upload(tab, scan)
    tab.wait_for_selector("#answer .probability", timeout=30_000)
    # As long as this is held, no image is decoded.
    held = threading.Event()
    monkeypatch.setattr(
        "bus_hf.space.shared_detector.read_scan", lambda *_, **__: held.wait(60) and Scan(phantom_image(), 0.0)
    )
    try:
        upload(tab, scan)
        tab.wait_for_selector("#answer >> text=Reading the new image", timeout=30_000)
        assert tab.locator("#answer .probability").count() == 0
        assert tab.locator("#scan .scan").count() == 0
    finally:
        held.set()
    tab.wait_for_selector("#answer .probability", timeout=30_000)


def phantom_image():
    return phantom(np.random.default_rng(4), "malignant")[0]


def test_a_busy_page_says_so_where_the_answer_stands(tab, scan):
    upload(tab, scan)
    tab.wait_for_selector("#answer .probability", timeout=30_000)
    tab.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": "the page is busy."}))
    upload(tab, scan)
    tab.wait_for_selector("#answer [role=alert]", timeout=30_000)
    assert tab.locator("#scan .scan").count() == 0
    tab.unroute("**/queue/join*")
    upload(tab, scan)
    tab.wait_for_selector("#answer .probability", timeout=30_000)


def test_nothing_breaks_the_pages_own_rules(tab, scan):
    broken = []
    tab.on("console", lambda message: broken.append(message.text) if "Content Security" in message.text else None)
    upload(tab, scan)
    tab.wait_for_selector("#answer .probability", timeout=30_000)
    tab.get_by_role("tab", name="About").click()
    tab.wait_for_selector("#plots img")
    assert broken == []


def test_a_closed_tab_leaves_nothing(browser, ensemble, scan):
    clock = Clock()
    state = State(clock)
    context = browser.new_context()
    with served(ensemble, state) as url:
        tab = context.new_page()
        with tab.expect_request("**/heartbeat/*"):
            tab.goto(url)
        tab.get_by_role("tab", name="Many files").click()
        tab.set_input_files("#many input[type=file]", [str(scan)])
        tab.wait_for_selector("#many >> text=a scan", timeout=30_000)
        # As long as the tab is open, an upload waits to be read.
        for _ in range(3):
            clock.skip(0.7 * SILENT)
            state.sweep()
        assert len(state.uploads) == 1
        context.close()
        # The server notices within moments.
        end = time.monotonic() + 20
        while len(state.uploads) and time.monotonic() < end:
            time.sleep(0.1)
            if clock.skipped < 0.8 * OLDEST:
                clock.skip(SILENT + 1)
            state.sweep()
        assert len(state.uploads) == 0


def test_a_dropped_image_is_read(tab, scan):
    data = tab.evaluate_handle(
        """(data) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
            return transfer;
        }""",
        base64.b64encode(scan.read_bytes()).decode(),
    )
    tab.dispatch_event("#upload button", "drop", {"dataTransfer": data})
    tab.wait_for_selector("#answer .probability", timeout=30_000)


def test_a_phone_offers_its_camera(tab):
    # A phone offers the camera for a field that takes any image and names no other way.
    field = tab.locator("#upload input[type=file]").first
    assert "image/*" in field.get_attribute("accept")
    assert field.get_attribute("capture") is None


def test_a_pasted_image_is_read(tab, scan):
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.evaluate(
        """async (data) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const copied = new Blob([bytes], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": copied })]);
        }""",
        base64.b64encode(scan.read_bytes()).decode(),
    )
    tab.get_by_role("button", name="Paste from clipboard").click()
    tab.wait_for_selector("#answer .probability", timeout=30_000)


def test_another_operating_point_changes_the_words_and_not_the_probability(tab, scan):
    read_with_a_box(tab, scan)
    probability = tab.inner_text("#answer .probability")
    assert "threshold, 30 %" in tab.inner_text("#answer")
    assert (
        "catches 95 in 100 cancers and clears 70 in 100 others among the images it was measured on"
        in tab.inner_text("#answer")
    )
    tab.click("#point input")
    tab.click("text=90 % of cancers")
    tab.wait_for_function("document.querySelector('#answer').innerText.includes('threshold, 50 %')", timeout=30_000)
    assert tab.inner_text("#answer .probability") == probability


def test_a_box_that_is_drawn_is_read(tab, scan):
    upload(tab, scan)
    tab.wait_for_selector("#scan .stage", timeout=30_000)
    tab.check("#draw input")
    stage = tab.locator("#scan .stage")
    stage.scroll_into_view_if_needed()
    frame = stage.bounding_box()
    tab.mouse.move(frame["x"] + frame["width"] * 0.25, frame["y"] + frame["height"] * 0.25)
    tab.mouse.down()
    tab.mouse.move(frame["x"] + frame["width"] * 0.75, frame["y"] + frame["height"] * 0.75, steps=4)
    tab.mouse.up()
    left, top, width, height = map(int, tab.input_value("#roi input, #roi textarea").split(","))
    assert abs(left - 80) <= 3
    assert abs(top - 64) <= 3
    assert abs(width - 160) <= 4
    assert abs(height - 128) <= 4
    tab.click("#again")
    tab.wait_for_function("document.querySelector('#answer').innerText.includes('box that you drew')", timeout=30_000)


def test_what_is_no_image_gives_a_sentence(tab, tmp_path):
    path = tmp_path / "letter.png"
    path.write_text("just text")
    upload(tab, path)
    tab.wait_for_selector("#answer [role=alert]", timeout=30_000)
    text = tab.inner_text("#answer")
    assert "letter.png: this is no image of a known kind" in text
    assert "Traceback" not in text


def test_keyboard_alone_reaches_an_example(tab):
    button = tab.get_by_role("button", name="Malignant look")
    button.focus()
    assert tab.evaluate("document.activeElement.innerText.trim()") == "Malignant look"
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#answer .probability", timeout=30_000)


def test_many_files_give_a_table_with_a_row_for_a_bad_one(tab, scan, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(scan.read_bytes()[:500])
    tab.get_by_role("tab", name="Many files").click()
    tab.set_input_files("#many input[type=file]", [str(scan), str(bad)])
    tab.wait_for_selector("#many >> text=bad", timeout=30_000)
    tab.check("#heatmaps input")
    tab.click("#go")
    tab.wait_for_selector("#rows table", timeout=30_000)
    assert tab.evaluate("document.querySelector('#rows td img').naturalWidth") == 200
    text = tab.inner_text("#rows")
    assert "2 files, 1 not read" in text
    assert "damaged or cut short" in text
    assert fits(tab)
    assert tab.get_attribute("#rows a.download", "href").startswith("data:text/csv")


def test_about_says_what_it_is_not(tab):
    tab.get_by_role("tab", name="About").click()
    tab.wait_for_selector("#about >> text=not a medical device")
    assert "busbra" in tab.locator("#about table").first.inner_text()
    assert tab.locator("#plots img").count() == 4
    assert tab.evaluate("[...document.querySelectorAll('#plots img')].every(image => image.naturalWidth > 300)")
    assert fits(tab)
