"""`bus-hf serve`: it answers until Ctrl-C."""

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from bus_hf.cli import main

ROOT = Path(__file__).resolve().parents[2]


def test_serve_answers_until_ctrl_c(tiny_ensemble):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bus_hf.cli", "serve", "--port", str(port), "--ensemble", str(tiny_ensemble)]

    def listen() -> None:
        # Tests that run in the background ignore Ctrl-C, and what they start would inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=listen) as process:
        try:
            for line in process.stderr:
                if "serving on" in line:
                    break
            assert str(port) in line
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                assert b"Breast ultrasound reader" in answer.read()
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert process.wait(30) == 130
            assert "closed" in rest
            assert "Traceback" not in rest
        finally:
            process.kill()


def test_a_port_that_is_taken_is_one_sentence(monkeypatch, capsys):
    def launch(*args, **kwargs):
        raise OSError("Cannot find empty port")

    monkeypatch.setattr("bus_hf.space.page.launch", launch)
    assert main(["serve", "--port", "7999"]) == 2
    assert "--port" in capsys.readouterr().err
    assert main(["serve", "--port", "0"]) == 2
