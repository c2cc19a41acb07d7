"""The named endpoints, called as other people's code calls them, and what is left of an upload."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from bus_hf.data.phantoms import phantom
from bus_hf.detector import BreastCancerDetector
from bus_hf.errors import BusError
from bus_hf.space.about import about, pictures
from bus_hf.space.page import build, settings
from bus_hf.space.reader import Reader, parse_box

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def url(tiny_ensemble):
    page = build(str(tiny_ensemble))
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, **settings())
    yield address
    page.close()


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "a scan.png"
    Image.fromarray(phantom(np.random.default_rng(4), "malignant")[0]).save(path)
    return path


def uploads_left():
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []


def test_predict_says_what_python_says_and_keeps_nothing(client, scan, tiny_ensemble):
    found = client.predict(handle_file(scan), "miss_5_in_100", "", api_name="/predict")
    expected = BreastCancerDetector.from_pretrained(tiny_ensemble).predict(scan)
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-6)
    assert found["prediction"] == expected.prediction
    assert found["operating_point"] == "miss_5_in_100"
    assert not uploads_left()


@pytest.mark.parametrize("name", ["space_client.py", "space_http.py"])
def test_the_examples_say_what_python_says(name, url, scan, tiny_ensemble):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), url, str(scan)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = BreastCancerDetector.from_pretrained(tiny_ensemble).predict(scan)
    prediction, probability, *unsure = done.stdout.split()
    assert prediction == expected.prediction
    assert float(probability) == pytest.approx(expected.probability, abs=1e-4)
    assert bool(unsure) == expected.uncertain
    assert not uploads_left()


def test_the_http_example_says_what_is_refused(url, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "space_http.py"), url, str(tmp_path / "text.png")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "the page refuses this" in done.stderr


def test_predict_with_a_box_and_another_point(client, scan):
    found = client.predict(handle_file(scan), "balanced", "10,20,100,90", api_name="/predict")
    assert found["box"] == [10, 20, 100, 90]
    assert found["box_source"] == "given"
    assert found["threshold"] == 0.5


@pytest.mark.parametrize(
    ("point", "roi", "text"),
    [
        ("nonsense", "", "there is no operating point 'nonsense'"),
        ("", "1,2,3", "is no lesion box"),
        ("", "0,0,9999,9999", "not inside the image"),
    ],
)
def test_wrong_use_is_one_sentence(client, scan, point, roi, text):
    with pytest.raises(AppError, match=text):
        client.predict(handle_file(scan), point, roi, api_name="/predict")
    assert not uploads_left()


def test_what_is_no_image_is_one_sentence_and_is_deleted(client, tmp_path):
    path = tmp_path / "letter.png"
    path.write_text("text")
    with pytest.raises(AppError, match="no image of a known kind"):
        client.predict(handle_file(path), "", "", api_name="/predict")
    assert not uploads_left()


def test_batch_keeps_going_after_a_bad_file(client, scan, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    good, failed, again = client.predict(
        [handle_file(scan), handle_file(bad), handle_file(scan)], "", api_name="/predict_batch"
    )
    assert good["probability"] == again["probability"]
    assert "the file is empty" in failed["error"]
    assert not uploads_left()


def test_only_the_named_endpoints_are_public(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/predict", "/predict_batch"}


def test_weights_load_once_on_first_use_whoever_asks():
    loaded = []

    def load(name, revision, members):
        time.sleep(0.05)
        loaded.append((name, members))
        return object()

    reader = Reader("folder", load)
    assert loaded == []
    found = []
    threads = [threading.Thread(target=lambda: found.append(reader.detector())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [("folder", None)]
    assert len(set(map(id, found))) == 1
    reader.detector(light=True)
    assert loaded[1] == ("folder", ["light"])


def test_environment_names_the_ensemble(monkeypatch, tmp_path):
    monkeypatch.setenv("BUS_HF_ENSEMBLE", str(tmp_path))
    assert Reader().ensemble == str(tmp_path)
    monkeypatch.delenv("BUS_HF_ENSEMBLE")
    assert Reader().ensemble.endswith("checkpoints")


def test_box_text():
    assert parse_box("") is None
    assert parse_box(" 1, 2.5,3 ,4") == (1, 2.5, 3, 4)
    with pytest.raises(BusError, match="leave it empty"):
        parse_box("a box")


def test_page_opens_without_an_ensemble_and_says_so_on_reading(tmp_path):
    reader = Reader(str(tmp_path / "none"))
    assert build(reader=reader) is not None
    with pytest.raises(BusError):
        reader.detector()


def test_about_of_the_shipped_ensemble_holds_its_figures():
    text = about(str(Path(__file__).parents[2] / "checkpoints"))
    assert "The light choice, `tf_efficientnet_lite0` alone, at the calibration and the thresholds that ship" in text
    assert "images whose patients and near-duplicates the networks never saw" in text
    assert "| busbra |" in text
    assert "miss at most 5 in 100 cancers" in text
    assert "What it was trained on" in text
    assert "Of 129 malignant images" in text


def test_plots_of_the_shipped_ensemble_lie_inside_the_page(tmp_path):
    shown = pictures(str(Path(__file__).parents[2] / "checkpoints"))
    assert shown.count('src="data:image/png;base64,iVBOR') == 4
    assert "fitted on these images" in shown
    assert pictures(str(tmp_path)) == ""
