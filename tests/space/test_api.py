"""The named endpoints, called as other people's code calls them, and what is left of an upload."""

import base64
import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from bus_hf.data.images import Scan
from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError
from bus_hf.inference.detector import BreastCancerDetector
from bus_hf.reporting import sentences
from bus_hf.space.about import about, pictures
from bus_hf.space.answers import Answers
from bus_hf.space.page import _EXAMPLES, build, settings
from bus_hf.space.reader import Kept, Reader, Settings, parse_box
from bus_hf.space.uploads import Uploads, of_this_process

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def url(tiny_ensemble):
    page = build(str(tiny_ensemble))
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, **settings())
    yield address
    page.close()


@pytest.fixture(autouse=True)
def nobody_elses():
    """No upload of another test is there."""
    kept = of_this_process()
    kept.drop(f"{kept.root}/{token}/image" for token in list(kept._entries))


@pytest.fixture(scope="module")
def client(url):
    return Client(url, verbose=False)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "a scan.png"
    Image.fromarray(phantom(np.random.default_rng(4), "malignant")[0]).save(path)
    return path


def uploads_left():
    """Files in Gradio's folder, and uploads that are still kept."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    return [path for path in folder.rglob("*") if path.is_file()] or len(of_this_process())


def test_predict_says_what_python_says_and_keeps_nothing(client, scan, tiny_ensemble):
    found = client.predict(handle_file(scan), "miss_5_in_100", "", api_name="/predict")
    expected = BreastCancerDetector.from_pretrained(tiny_ensemble).predict(scan)
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-6)
    assert found["prediction"] == expected.prediction
    assert found["verdict"] == sentences.verdict(expected)
    assert found["operating_point"] == "miss_5_in_100"
    assert found["name"] == "a scan.png"
    assert not uploads_left()


def test_the_image_alone_is_enough(client, scan):
    found = client.predict(handle_file(scan), api_name="/predict")
    assert found["operating_point"] == "miss_5_in_100"
    assert "heatmap" not in found
    (one,) = client.predict([handle_file(scan)], api_name="/predict_batch")
    assert one["probability"] == found["probability"]


def test_light_and_heat_map_can_be_asked_for(client, scan, tiny_ensemble):
    found = client.predict(handle_file(scan), light=True, heatmap=True, api_name="/predict")
    expected = BreastCancerDetector.from_pretrained(tiny_ensemble, members=["light"]).predict(scan, heatmap=True)
    assert list(found["members"]) == list(expected.members)
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-6)
    stored = base64.b64decode(found["heatmap"].removeprefix("data:image/png;base64,"))
    shown = np.asarray(Image.open(io.BytesIO(stored)), np.float32) / 255
    assert np.abs(shown - expected.heatmap).max() < 0.003
    both = client.predict([handle_file(scan), handle_file(scan)], light=True, heatmap=True, api_name="/predict_batch")
    assert [one["heatmap"] for one in both] == [found["heatmap"]] * 2
    assert not uploads_left()


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


def test_clients_that_send_one_file_at_once_are_all_answered(url, scan):
    clients = [Client(url, verbose=False) for _ in range(3)]
    found = [[] for _ in clients]

    def ask(client, answers):
        answers += [client.predict(handle_file(scan), api_name="/predict") for _ in range(3)]
        answers += client.predict([handle_file(scan), handle_file(scan)], api_name="/predict_batch")

    threads = [threading.Thread(target=ask, args=pair) for pair in zip(clients, found, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(answers) for answers in found] == [5, 5, 5]
    assert len({answer["probability"] for answers in found for answer in answers}) == 1
    assert not uploads_left()


@pytest.mark.parametrize("name", ["space_client.py", "space_http.py"])
def test_the_examples_say_what_python_says(name, url, scan, tiny_ensemble):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), url, str(scan)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = BreastCancerDetector.from_pretrained(tiny_ensemble).predict(scan)
    probability, verdict = done.stdout.strip().split(" ", 1)
    assert verdict == sentences.verdict(expected)
    assert float(probability) == pytest.approx(expected.probability, abs=1e-4)
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
    ],
)
def test_a_wrong_argument_is_one_sentence_and_costs_no_upload(url, scan, point, roi, text):
    path = send(url, scan)
    assert text in ask(url, "predict", path, point, roi)["error"]
    # The corrected call needs no new one.
    assert ask(url, "predict", path)["verdict"] in (sentences.UNSURE, sentences.SUSPICIOUS, sentences.CLEAR)
    assert not uploads_left()


@pytest.mark.parametrize("flag", ["light", "heatmap", "lesion_type"])
@pytest.mark.parametrize("given", ["true", "yes", "", 1, 0, [], [True], {"a": True}])
@pytest.mark.parametrize("name", ["predict", "predict_batch"])
def test_a_flag_is_true_or_false_and_nothing_else(url, scan, name, flag, given):
    path, more = send(url, scan), ["light", "heatmap", "lesion_type"].index(flag)
    arguments = [None] * (2 if name == "predict" else 1) + [None] * more
    assert f"{flag} is neither true nor false" in ask(url, name, path, *arguments, given)["error"]
    assert "probability" in str(ask(url, name, path, *arguments, False))
    assert not uploads_left()


@pytest.mark.parametrize(
    ("point", "type_asked"), [("nonsense", None), (0, None), (None, True)], ids=["point", "number", "lesion type"]
)
def test_a_wrong_argument_costs_no_upload_of_a_batch(url, scan, point, type_asked):
    paths = [send(url, scan) for _ in range(3)]
    assert "error" in ask(url, "predict_batch", paths, point, None, None, type_asked)
    assert [one["name"] for one in ask(url, "predict_batch", paths)] == ["a scan.png"] * 3
    assert not uploads_left()


def send(url, scan):
    return httpx.post(f"{url}gradio_api/upload", files={"files": (scan.name, scan.read_bytes())}).json()[0]


def ask(url, name, path, *more):
    """What an endpoint answers by plain HTTP: its data, or the error of its event."""
    file = [{"path": one} for one in path] if isinstance(path, list) else {"path": path}
    event = httpx.post(f"{url}gradio_api/call/{name}", json={"data": [file, *more]}).raise_for_status().json()
    said = httpx.get(f"{url}gradio_api/call/{name}/{event['event_id']}", timeout=60).text
    kind, data = said.strip().split("\n")[:2]
    found = json.loads(data.removeprefix("data: "))
    return found[0] if kind == "event: complete" else found


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
    path, said = send(url, scan), []
    threads = [threading.Thread(target=lambda: said.append(ask(url, "predict", path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [one["error"] for one in said if "error" in one]
    assert len(refused) == 3
    assert all("an upload is read once" in one for one in refused)


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


def test_one_image_is_read_at_a_time_whoever_asks():
    at_once, most = [], []

    class Detector:
        def predict(self, grey, **_):
            at_once.append(1)
            most.append(len(at_once))
            time.sleep(0.02)
            at_once.pop()

    reader = Reader("folder", lambda *_, **__: Detector())
    threads = [threading.Thread(target=reader.read, args=(None, Settings(light=light))) for light in [True, False] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_a_session_keeps_one_image_for_a_time():
    now = [0.0]
    kept = Kept(lambda name: True, seconds=10, sessions=2, clock=lambda: now[0])
    first, second = np.zeros((2, 2)), np.ones((2, 2))
    a, b, c = (("cookie", name) for name in "abc")
    kept.put(a, first)
    kept.put(a, second)
    assert kept.get(a) is second
    assert kept.get(b) is None
    now[0] = 9
    assert kept.get(a) is second
    now[0] = 18
    assert kept.get(a) is second
    now[0] = 29
    assert kept.get(a) is None
    for name in (a, b, c):
        kept.put(name, first)
    assert [kept.get(name) is first for name in (a, b, c)] == [False, True, True]


def test_the_image_of_a_closed_tab_is_dropped_within_a_minute():
    now, tabs = [0.0], {"open", "closed"}
    kept = Kept(tabs.__contains__, clock=lambda: now[0])
    for name in ("open", "closed"):
        kept.put(("", name), np.zeros((2, 2)))
    for now[0] in range(0, 100, 5):
        kept.sweep()
    tabs.remove("closed")
    for now[0] in range(100, 160, 5):
        kept.sweep()
    assert kept.get(("", "closed")) is None
    assert kept.get(("", "open")) is not None


def test_environment_names_the_ensemble(monkeypatch, tmp_path):
    monkeypatch.setenv("BUS_HF_ENSEMBLE", str(tmp_path))
    assert Reader().ensemble == str(tmp_path)
    monkeypatch.delenv("BUS_HF_ENSEMBLE")
    assert Reader().ensemble.endswith("checkpoints")


def test_box_text():
    assert parse_box("") is None
    assert parse_box(" 1, 2.5,3 ,4") == (1, 2.5, 3, 4)
    assert parse_box([1, 2.5, 3, 4]) == (1, 2.5, 3, 4)
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


class Asking:
    """A reader in whose session something else is asked for while it reads."""

    def __init__(self, meanwhile):
        self.meanwhile = meanwhile

    def decode(self, upload):
        return Scan(np.zeros((32, 32), np.uint8), 0.0)

    def read(self, scan, asked, name="the image"):
        self.meanwhile()
        raise BusError("this is the answer", remedy="look at it")


def visitor(tab="a tab"):
    return SimpleNamespace(cookies={}, session_hash=tab)


@pytest.mark.parametrize("what", ["upload", "example"])
@pytest.mark.parametrize("then", ["nothing", "upload", "example", "another tab's upload"])
def test_a_late_answer_to_an_earlier_request_is_not_shown(what, then):
    uploads = Uploads()
    files = [{"path": uploads.add(name, b"x")} for name in ("first.png", "second.png")]
    meanwhile = {
        "nothing": lambda: None,
        "upload": lambda: answers.begin()(files[1], visitor()),
        "example": lambda: answers.begin("another")(None, visitor()),
        "another tab's upload": lambda: answers.begin()(files[1], visitor("another")),
    }[then]
    answers = Answers(Asking(meanwhile), uploads, Kept(lambda name: True))
    if what == "upload":
        answers.begin()(files[0], visitor())
        shown = answers.upload(files[0], None, False, False, visitor())[1:]
    else:
        answers.begin("benign")(None, visitor())
        shown = answers.example("benign", "benign", 3)(None, False, False, visitor())
    late = then in ("upload", "example")
    assert (shown[0] == gr.skip()) == late
    assert ("this is the answer" in str(shown[0])) != late


def test_an_upload_that_another_one_followed_is_dropped_unread():
    uploads = Uploads()
    first, second = ({"path": uploads.add(name, b"x")} for name in ("first.png", "second.png"))
    answers = Answers(None, uploads, Kept(lambda name: True))
    for file in (first, second):
        answers.begin()(file, visitor())
    assert answers.upload(first, None, False, False, visitor())[1] == gr.skip()
    assert len(uploads) == 1


def test_the_example_without_a_lesion_is_not_suspicious():
    image, _ = phantom(np.random.default_rng(_EXAMPLES["Without a lesion"][1]), "normal")
    result = BreastCancerDetector.from_pretrained(EXAMPLES.parent / "checkpoints", device="cpu").predict(image)
    assert (result.box, sentences.verdict(result)) == (None, sentences.UNSURE)


def test_settings_hold_for_many_files_too():
    asked_for = []

    class Recording:
        def check(self, asked):
            asked_for.append(asked)

        def decode(self, upload):
            return Scan(np.zeros((32, 32), np.uint8), 0.0)

        def read(self, scan, asked, name="the image"):
            asked_for.append(asked)
            raise BusError("this is the answer", remedy="look at it")

    uploads = Uploads()
    files = [{"path": uploads.add(name, b"x")} for name in ("first.png", "second.png")]
    answers = Answers(Recording(), uploads, Kept(lambda name: True))
    table, emptied = answers.batch(files, "a point", True, True, True, progress=lambda *_, **__: None)
    assert emptied is None
    assert table.count("this is the answer") >= 2
    wanted = Settings("a point", None, light=True, heatmap=True, lesion_type=True)
    assert set(asked_for) == {wanted}
    assert len(uploads) == 0
