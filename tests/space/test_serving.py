"""The page as a process of its own: what it writes, what it logs, whom it calls, and what a kill leaves."""

import os
import signal
import socket
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from bus_hf.cli import main
from bus_hf.data.phantoms import phantom
from bus_hf.space.door import API
from tests.programs import start

ROOT = Path(__file__).resolve().parents[2]
# Notes every connection and every look-up of a name, then serves.
WATCHED = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        shown = arguments[1:] if event in ("socket.connect", "socket.sendto") else arguments[:1]
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {shown}" + chr(10))
sys.addaudithook(watch)
from bus_hf.cli import main
sys.exit(main(sys.argv[1:]))
"""
NAME = "anna_smith_1970.png"


class Served:
    """`bus-hf serve` on a tiny ensemble, with a temporary folder of its own."""

    def __init__(self, ensemble, folder, *flags, **environment):
        self.temporary, self.watched = folder / "tmp", folder / "watched"
        self.temporary.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        ours = {"TMPDIR": str(self.temporary), "WATCHED": str(self.watched)}
        without = {key: value for key, value in os.environ.items() if key != "GRADIO_TEMP_DIR"}
        command = ["-c", WATCHED, "serve", "--port", port, "--ensemble", ensemble, *flags]
        self._printed = folder / f"printed-{port}"
        self.process = start(command, without | ours | environment, ROOT, self._printed, self._printed)
        end = time.monotonic() + 90
        while "serving on" not in self.printed():
            assert self.process.is_alive(), self.printed()
            assert time.monotonic() < end, self.printed()
            time.sleep(0.1)

    def printed(self):
        return self._printed.read_text() if self._printed.exists() else ""

    def stop(self, number=signal.SIGKILL):
        """End the process and return all that it said."""
        os.kill(self.process.pid, number)
        self.process.join(30)
        assert not self.process.is_alive()
        return self.printed()

    def files(self):
        """All files below its temporary folder."""
        return [path for path in self.temporary.rglob("*") if path.is_file()]

    def send(self, data):
        """Upload bytes under a name that must never be seen again; returns the path, or what refused it."""
        answer = httpx.post(f"{self.url}{API}/upload", files={"files": (NAME, data)}, timeout=30)
        return answer if answer.status_code != 200 else answer.json()[0]

    def ask(self, *data, name="predict"):
        """Call an endpoint and return its whole answer."""
        called = httpx.post(f"{self.url}{API}/call/{name}", json={"data": list(data)}, timeout=30)
        if called.status_code != 200:
            return called.text
        return httpx.get(f"{self.url}{API}/call/{name}/{called.json()['event_id']}", timeout=60).text


def file(path):
    return {"path": path, "orig_name": NAME, "meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.png"
    Image.fromarray(phantom(np.random.default_rng(4), "malignant")[0]).save(path)
    return path.read_bytes()


def test_nothing_is_written_logged_or_called(tiny_ensemble, tmp_path, scan):
    served = Served(tiny_ensemble, tmp_path)
    try:
        assert "event: complete" in served.ask(file(served.send(scan)))
        assert "no image of a known kind" in served.ask(file(served.send(b"text" * 10)))
        assert "no operating point" in served.ask(file(served.send(scan)), "nonsense")
        assert "no lesion box" in served.ask(file(served.send(scan)), None, "1,2")
        assert "error" in served.ask([file(served.send(b"x")), file(served.send(scan))], name="predict_batch")
        for wrong in (f"/home/anna/{NAME}", f"http://203.0.113.7/{NAME}", f"https://pacs.example.org/{NAME}"):
            assert "no upload of yours" in served.ask(file(wrong))
            assert "no upload of yours" in served.ask(wrong)
            assert httpx.get(f"{served.url}{API}/file={wrong}").status_code == 404
            assert httpx.get(f"{served.url}{API}/proxy={wrong}").status_code == 404
        httpx.post(f"{served.url}{API}/upload", content=b"anna", headers={"Content-Type": "multipart/form-data"})
        # A large one, which other servers would move to a file, and one whose sender hangs up.
        assert "known kind" in served.ask(file(served.send(os.urandom(20_000_000))))
        with socket.create_connection(("127.0.0.1", int(served.url.rsplit(":", 1)[1]))) as hung:
            hung.sendall(
                f"POST {API}/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000\r\n"
                f"Content-Type: multipart/form-data; boundary=a\r\n\r\n--a\r\nContent-Disposition: form-data; "
                f'name="files"; filename="{NAME}"\r\n\r\nhalf'.encode()
            )
        time.sleep(0.5)
        assert "event: complete" in served.ask(file(served.send(scan)))
        held = served.send(scan)
        assert served.files() == []
    finally:
        message = served.stop(signal.SIGTERM)
    assert served.files() == []
    for private in (NAME, "anna", held, "Traceback"):
        assert private not in message
    calls = served.watched.read_text().splitlines()
    assert any("127.0.0.1" in line for line in calls)  # Gradio looks whether it answers: the watch works.
    strangers = [
        line for line in calls if not any(own in line for own in ("'127.0.0.1'", "'localhost'", "'0.0.0.0'", "(None,)"))
    ]
    assert strangers == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_leaves_no_upload(tiny_ensemble, tmp_path, scan, number):
    served = Served(tiny_ensemble, tmp_path)
    kept = [served.send(scan) for _ in range(3)]
    message = served.stop(number)
    assert served.files() == []
    assert "Traceback" not in message
    if number == signal.SIGKILL:
        again = Served(tiny_ensemble, tmp_path)
        try:
            assert "no upload of yours" in again.ask(file(kept[0]))
        finally:
            again.stop()


def test_a_password_guards_uploads_and_previews_too(tiny_ensemble, tmp_path, scan):
    served = Served(tiny_ensemble, tmp_path, "--auth", "anna", BUS_HF_PASSWORD="sesame")
    try:
        assert served.send(scan).status_code == 401
        with httpx.Client(base_url=served.url, timeout=60) as client:
            login = client.post("/login", data={"username": "anna", "password": "sesame"})
            assert login.status_code == 200
            (path,) = client.post(f"{API}/upload", files={"files": (NAME, scan)}).json()
            assert client.get(f"{API}/file={path}").content == scan
            body = {"data": [file(path)]}
            assert httpx.post(f"{served.url}{API}/call/predict", json=body).status_code == 401
            event = client.post(f"{API}/call/predict", json=body).json()["event_id"]
            assert "event: complete" in client.get(f"{API}/call/predict/{event}").text
        assert httpx.get(f"{served.url}{API}/file={path}").status_code == 401
    finally:
        served.stop()


def test_serving_everybody_without_a_password_is_asked_for(monkeypatch, capsys):
    calls = []

    def launch(*arguments, **more):
        calls.append(more.get("auth"))
        raise OSError

    monkeypatch.setattr("bus_hf.space.page.launch", launch)
    for host in ("0.0.0.0", "::", "192.0.2.7"):
        assert main(["serve", "--host", host]) == 2
        assert "--public" in capsys.readouterr().err
    assert calls == []
    assert main(["serve", "--host", "0.0.0.0", "--public"]) == 2
    monkeypatch.delenv("BUS_HF_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    assert main(["serve", "--host", "0.0.0.0", "--auth", "anna"]) == 2
    assert "BUS_HF_PASSWORD" in capsys.readouterr().err
    monkeypatch.setenv("BUS_HF_PASSWORD", "sesame")
    assert main(["serve", "--host", "0.0.0.0", "--auth", "anna"]) == 2
    assert calls == [None, ("anna", "sesame")]
