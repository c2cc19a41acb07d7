"""One detector for all threads, loaded once."""

import threading
import time

from bus_hf.space.arguments import Settings
from bus_hf.space.shared_detector import SharedDetector


def test_weights_load_once_on_first_use_whoever_asks():
    loaded = []

    def load(name, revision, members):
        time.sleep(0.05)
        loaded.append((name, members))
        return object()

    detector = SharedDetector("folder", load)
    assert loaded == []
    result = []
    threads = [threading.Thread(target=lambda: result.append(detector.detector())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [("folder", None)]
    assert len(set(map(id, result))) == 1
    detector.detector(light=True)
    assert loaded[1] == ("folder", ["light"])


def test_one_image_is_read_at_a_time_whoever_asks():
    at_once, most = [], []

    class Detector:
        def predict(self, grey, **_):
            at_once.append(1)
            most.append(len(at_once))
            time.sleep(0.02)
            at_once.pop()

    detector = SharedDetector("folder", lambda *_, **__: Detector())
    threads = [
        threading.Thread(target=detector.predict, args=(None, Settings(light=light))) for light in [True, False] * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_environment_names_the_ensemble(monkeypatch, tmp_path):
    monkeypatch.setenv("BUS_HF_ENSEMBLE", str(tmp_path))
    assert SharedDetector().ensemble == str(tmp_path)
    monkeypatch.delenv("BUS_HF_ENSEMBLE")
    assert SharedDetector().ensemble.endswith("checkpoints")
