"""The named endpoints, called as other people's code calls them, and what is left of an upload."""

import base64
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from bus_hf.inference.detector import BreastCancerDetector
from bus_hf.reporting import sentences
from bus_hf.space.page import build, settings
from bus_hf.space.uploads import OLDEST

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def url(tiny_ensemble, state):
    page = build(str(tiny_ensemble), state=state)
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, **settings(state=state))
    yield address
    page.close()


@pytest.fixture(autouse=True)
def nobody_elses(clock, state):
    """No upload of another test is there."""
    clock.skip(OLDEST + 1)
    state.sweep()


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


@pytest.fixture
def left(state):
    """Return a function that lists files in Gradio's folder, or counts the uploads that are still kept."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    return lambda: [path for path in folder.rglob("*") if path.is_file()] or len(state.uploads)


def test_predict_says_what_python_says_and_keeps_nothing(client, scan, tiny_ensemble, left):
    result = client.predict(handle_file(scan), "miss_5_in_100", "", api_name="/predict")
    expected = BreastCancerDetector.from_pretrained(tiny_ensemble).predict(scan)
    assert result["probability"] == pytest.approx(expected.probability, abs=1e-6)
    assert result["prediction"] == expected.prediction
    assert result["verdict"] == sentences.verdict(expected)
    assert result["operating_point"] == "miss_5_in_100"
    assert result["name"] == "a scan.png"
    assert not left()


def test_the_image_alone_is_enough(client, scan):
    result = client.predict(handle_file(scan), api_name="/predict")
    assert result["operating_point"] == "miss_5_in_100"
    assert "heatmap" not in result
    (one,) = client.predict([handle_file(scan)], api_name="/predict_batch")
    assert one["probability"] == result["probability"]


def test_light_and_heat_map_can_be_asked_for(client, scan, tiny_ensemble, left):
    result = client.predict(handle_file(scan), light=True, heatmap=True, api_name="/predict")
    expected = BreastCancerDetector.from_pretrained(tiny_ensemble, members=["light"]).predict(scan, heatmap=True)
    assert list(result["members"]) == list(expected.members)
    assert result["probability"] == pytest.approx(expected.probability, abs=1e-6)
    stored = base64.b64decode(result["heatmap"].removeprefix("data:image/png;base64,"))
    shown = np.asarray(Image.open(io.BytesIO(stored)), np.float32) / 255
    assert np.abs(shown - expected.heatmap).max() < 0.003
    both = client.predict([handle_file(scan), handle_file(scan)], light=True, heatmap=True, api_name="/predict_batch")
    assert [one["heatmap"] for one in both] == [result["heatmap"]] * 2
    assert not left()


@pytest.mark.parametrize("name", ["/predict", "/predict_batch"])
def test_lesion_type_is_one_sentence_where_there_is_no_classifier(client, scan, name):
    file = handle_file(scan) if name == "/predict" else [handle_file(scan)]
    with pytest.raises(AppError, match="do not ask for one"):
        client.predict(file, lesion_type=True, api_name=name)


def test_every_argument_is_described_in_our_own_words(client):
    for endpoint in client.view_api(return_format="dict")["named_endpoints"].values():
        image, *others = endpoint["parameters"]
        assert not image["parameter_has_default"]
        assert all(other["parameter_has_default"] for other in others)
        for one in (*endpoint["parameters"], *endpoint["returns"]):
            assert len(one["python_type"]["description"]) > 20
            assert "FileData" not in one["python_type"]["description"]
        assert endpoint["description"]


def test_clients_that_send_one_file_at_once_are_all_answered(url, scan, left):
    clients = [Client(url, verbose=False) for _ in range(3)]
    result = [[] for _ in clients]

    def ask(client, answers):
        answers += [client.predict(handle_file(scan), api_name="/predict") for _ in range(3)]
        answers += client.predict([handle_file(scan), handle_file(scan)], api_name="/predict_batch")

    threads = [threading.Thread(target=ask, args=pair) for pair in zip(clients, result, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(answers) for answers in result] == [5, 5, 5]
    assert len({answer["probability"] for answers in result for answer in answers}) == 1
    assert not left()


@pytest.mark.parametrize("name", ["space_client.py", "space_http.py"])
def test_the_examples_say_what_python_says(name, url, scan, tiny_ensemble, left):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), url, str(scan)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = BreastCancerDetector.from_pretrained(tiny_ensemble).predict(scan)
    probability, verdict = done.stdout.strip().split(" ", 1)
    assert verdict == sentences.verdict(expected)
    assert float(probability) == pytest.approx(expected.probability, abs=1e-4)
    assert not left()


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
    result = client.predict(handle_file(scan), "balanced", "10,20,100,90", api_name="/predict")
    assert result["box"] == [10, 20, 100, 90]
    assert result["box_source"] == "given"
    assert result["threshold"] == 0.5


WRONG = [
    ("nonsense", "", "there is no operating point 'nonsense'"),
    (" ", "", "there is no operating point ' '"),
    (0, None, "operating_point is no text"),
    (False, None, "operating_point is no text"),
    (["balanced"], None, "operating_point is no text"),
    ("", "1,2,3", "is no lesion box"),
    ("", [1, 2, 3], "is no lesion box"),
    ("", [1, 2, 3, True], "is no lesion box"),
    ("", ["1", "2", "3", "4"], "is no lesion box"),
    ("", [1, 2, 3, 10**400], "is no lesion box"),
    ("", list(range(100)), "is no lesion box"),
    ("", 0, "is no lesion box"),
    ("", False, "is no lesion box"),
    ("", {"x": 1}, "is no lesion box"),
    ("", "0,0,9999,9999", "not inside the image"),
    ("", [0, 0, 9999, 9999], "not inside the image"),
    ("", "nan,0,9,9", "not finite"),
]


def test_a_wrong_argument_is_one_sentence_and_costs_no_upload(url, scan, left):
    path = send(url, scan)
    for point, roi, text in WRONG:
        assert text in ask(url, "predict", path, point, roi)["error"]
    # The corrected call needs no new one.
    assert ask(url, "predict", path)["verdict"] in (sentences.UNSURE, sentences.SUSPICIOUS, sentences.CLEAR)
    assert not left()


@pytest.mark.parametrize("name", ["predict", "predict_batch"])
def test_a_flag_is_true_or_false_and_nothing_else(url, scan, name, left):
    path = send(url, scan)
    for place, flag in enumerate(["light", "heatmap", "lesion_type"]):
        arguments = [None] * ((2 if name == "predict" else 1) + place)
        for given in ("true", "yes", "", 1, 0, [], [True], {"a": True}):
            assert f"{flag} is neither true nor false" in ask(url, name, path, *arguments, given)["error"]
    assert "probability" in str(ask(url, name, path, None, *([None] * (name == "predict")), False, False, False))
    assert not left()


@pytest.mark.parametrize(
    ("point", "type_asked"), [("nonsense", None), (0, None), (None, True)], ids=["point", "number", "lesion type"]
)
def test_a_wrong_argument_costs_no_upload_of_a_batch(url, scan, point, type_asked, left):
    paths = [send(url, scan) for _ in range(3)]
    assert "error" in ask(url, "predict_batch", paths, point, None, None, type_asked)
    assert [one["name"] for one in ask(url, "predict_batch", paths)] == ["a scan.png"] * 3
    assert not left()


def send(url, scan):
    return httpx.post(f"{url}gradio_api/upload", files={"files": (scan.name, scan.read_bytes())}).json()[0]


def ask(url, name, path, *more):
    """What an endpoint answers by plain HTTP: its data, or the error of its event."""
    file = [{"path": one} for one in path] if isinstance(path, list) else {"path": path}
    event = httpx.post(f"{url}gradio_api/call/{name}", json={"data": [file, *more]}).raise_for_status().json()
    message = httpx.get(f"{url}gradio_api/call/{name}/{event['event_id']}", timeout=60).text
    kind, data = message.strip().split("\n")[:2]
    result = json.loads(data.removeprefix("data: "))
    return result[0] if kind == "event: complete" else result


def test_a_client_that_passes_no_upload_is_told_how(client, scan, url):
    elsewhere = {"path": f"{url}gradio_api/info", "meta": {"_type": "gradio.FileData"}}
    for wrong in (str(scan), 3, elsewhere, {"a": 1}, scan.as_uri()):
        with pytest.raises(AppError, match=r"image: this is no upload of yours, .* within 55 seconds .* handle_file"):
            client.predict(wrong, api_name="/predict")
        (one,) = client.predict([wrong], api_name="/predict_batch")
        assert one["name"] == "file 1"
        assert one["error"].startswith("images: this is no upload of yours")
    with pytest.raises(AppError, match="this is a list where one file is read; send the file alone"):
        client.predict([handle_file(scan)], api_name="/predict")
    with pytest.raises(AppError, match="no image was given"):
        client.predict(None, api_name="/predict")
    with pytest.raises(AppError, match="no images were given"):
        client.predict(None, api_name="/predict_batch")
    with pytest.raises(AppError, match="1001 files at once"):
        client.predict([1] * 1001, api_name="/predict_batch")


def test_one_that_was_not_let_in_takes_no_other_file_with_it(client, scan):
    wrong, read, again = client.predict(["/etc/passwd", handle_file(scan), 3], api_name="/predict_batch")
    assert "no upload of yours" in wrong["error"]
    assert read["name"] == "a scan.png"
    assert again["name"] == "file 3"


def test_a_marker_of_a_refusal_that_a_client_sends_is_refused_itself(client):
    with pytest.raises(AppError, match="no upload of yours"):
        client.predict({"refused": ["a text of mine", None, "believe it"]}, api_name="/predict")


def test_a_single_file_is_a_batch_of_one(client, scan):
    (one,) = client.predict(handle_file(scan), api_name="/predict_batch")
    assert one["name"] == "a scan.png"
    assert client.predict([], api_name="/predict_batch") == []


def test_the_box_of_a_result_can_be_sent_back(client, scan):
    box = client.predict(handle_file(scan), roi="10,20,100,90", api_name="/predict")["box"]
    again = client.predict(handle_file(scan), roi=box, api_name="/predict")
    assert (again["box"], again["box_source"]) == (box, "given")


def test_how_long_an_upload_lives_and_how_often_it_is_read_is_told(client):
    for endpoint in client.view_api(return_format="dict")["named_endpoints"].values():
        assert "An upload is read once, within 55 seconds of its sender's last upload" in endpoint["description"]


def test_one_upload_that_is_asked_for_several_times_at_once_is_read_once(url, scan):
    path, message = send(url, scan), []
    threads = [threading.Thread(target=lambda: message.append(ask(url, "predict", path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [one["error"] for one in message if "error" in one]
    assert len(refused) == 3
    assert all("an upload is read once" in one for one in refused)


def test_what_is_no_image_is_one_sentence_and_is_deleted(client, tmp_path, left):
    path = tmp_path / "letter.png"
    path.write_text("text")
    with pytest.raises(AppError, match="no image of a known kind"):
        client.predict(handle_file(path), "", "", api_name="/predict")
    assert not left()


def test_batch_keeps_going_after_a_bad_file(client, scan, tmp_path, left):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    good, failed, again = client.predict(
        [handle_file(scan), handle_file(bad), handle_file(scan)], "", api_name="/predict_batch"
    )
    assert good["probability"] == again["probability"]
    assert "the file is empty" in failed["error"]
    assert not left()


def test_only_the_named_endpoints_are_public(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/predict", "/predict_batch"}
