"""A pull by the real client: one commit, hashes, the cache offline, and refusals as sentences that name what."""

import json

import cv2
import numpy as np
import pytest

from bus_hf.data.phantoms import phantom
from tests.hub.loopback import Fault, sha256

READ = """
import sys
from bus_hf import BreastCancerDetector
from bus_hf.errors import BusError
try:
    detector = BreastCancerDetector.from_pretrained(sys.argv[1], revision=(sys.argv[3:] or [None])[0])
    print(round(detector.predict(sys.argv[2]).probability, 6))
except BusError as error:
    print(f"refused: {error}")
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "scan.png"
    cv2.imwrite(str(path), phantom(np.random.default_rng(0), "malignant")[0])
    return path


@pytest.fixture
def pull(client, image, hub, described):
    """Push the described ensemble, then return a function that pulls and reads an image, with what it printed."""
    assert client("-m", "bus_hf.cli", "push", "ensemble", described, "--to", "org/tiny").returncode == 0

    def run(name="org/tiny", *revision, **settings):
        done = client("-c", READ, name, image, *revision, **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_from_the_hub_it_reads_as_from_the_folder_and_offline_from_the_cache(hub, pull, described):
    online = pull()
    assert online == pull(str(described))
    pulled = [call for call in hub.calls if "resolve" in call]
    plots = {call.split()[1].split("/resolve/")[0] + call[call.rindex("/") :] for call in pulled if ".png" in call}
    assert plots == {"/org/tiny/roc_curve.png"}, "the page shows this one, and no other and none of a member"
    assert [call for call in pulled if "report.json" in call], "the page shows the metrics"
    hub.calls.clear()
    assert pull(HF_HUB_OFFLINE="1") == online
    assert hub.calls == []
    # A Hub that is down is the same to whoever has the cache.
    assert pull(HF_ENDPOINT="http://127.0.0.1:9") == online


def test_an_older_commit_is_read_with_its_own_members(hub, pull, client, described, tmp_path):
    first = hub.model("org/tiny").head.oid
    before = pull()
    repo = hub.model("org/tiny-test_resnet")
    held = dict(repo.head.files)
    repo.commit("main", "moved on", held | {"model.safetensors": (b"another network", True)})
    assert pull("org/tiny", first, HF_HOME=str(tmp_path / "elsewhere")) == before


@pytest.mark.parametrize("spoil", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:1000]])
def test_a_changed_or_truncated_file_is_refused_by_name(hub, pull, spoil):
    repo = hub.model("org/tiny-test_resnet")
    content, lfs = repo.head.files["model.safetensors"]
    changed = spoil(content)
    repo.head.files["model.safetensors"] = (changed, lfs)
    hub.objects[sha256(changed)] = changed
    text = pull()
    assert text.startswith("refused: ")
    assert "test_resnet" in text
    assert "SHA-256 differs" in text


def test_a_connection_that_breaks_is_resumed(hub, pull):
    hub.faults = [Fault(r"GET /lfs/", times=1, after=5000)]
    assert not pull().startswith("refused")
    assert hub.faults[0].times == 0


def test_what_is_gated_private_or_unknown_and_a_wrong_token_are_sentences(hub, pull):
    hub.model("org/tiny").gated = True
    assert "access to this repository must be granted" in pull(HF_TOKEN=None)
    hub.model("org/tiny").gated = False
    hub.model("org/tiny").private = True
    assert "hf auth login" in pull(HF_TOKEN=None)
    assert "the Hub does not accept your token; run 'hf auth login' again" in pull(HF_TOKEN="hf_wrong")
    assert "no such revision" in pull("org/tiny", "never")
    assert "neither a folder here nor a repository" in pull("org/unknown")


def test_a_hub_out_of_reach_without_a_cache(pull, tmp_path):
    text = pull(HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "none"))
    assert "the Hub cannot be reached" in text
    assert "check the network" in text


def test_a_manifest_that_names_a_commit_which_is_not_there_is_refused(hub, pull):
    content = json.loads(hub.model("org/tiny").head.files["ensemble.json"][0])
    content["members"][1]["revision"] = "e" * 40
    hub.model("org/tiny").head.files["ensemble.json"] = (json.dumps(content).encode(), False)
    assert "no such revision" in pull()
