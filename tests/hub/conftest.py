"""The Hub on loopback, and the real clients against it: in processes of their own, with caches of their own."""

import json
import os

import pytest

from bus_hf.build import graphs
from bus_hf.ensemble import download
from bus_hf.ensemble.folder import read_manifest
from tests.hub.loopback import Hub
from tests.programs import python


@pytest.fixture
def hub():
    """An empty Hub."""
    with Hub() as running:
        yield running


@pytest.fixture
def client(hub, tmp_path):
    """Return a function that runs Python with arguments against the Hub; settings are environment variables."""

    def run(*arguments, **settings):
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE"))}
        given = hub.settings(tmp_path / "home")
        environment = {key: value for key, value in (kept | given | settings).items() if value is not None}
        return python(arguments, environment)

    return run


@pytest.fixture
def pinned(tiny_ensemble, monkeypatch):
    """A Hub that holds the manifest of any ensemble."""
    monkeypatch.setattr(download, "manifest", lambda *_: (read_manifest(tiny_ensemble), "c" * 40))


@pytest.fixture(scope="session")
def described(tmp_path_factory, make_ensemble):
    """A tiny ensemble with everything that a push sends: graphs, cards, report, plots. Not to be changed."""
    folder = tmp_path_factory.mktemp("described") / "ensemble"
    manifest = make_ensemble(folder)
    graphs.add(folder)
    for part in (".", *(member.name for member in manifest.members)):
        (folder / part / "README.md").write_text("---\nlicense: mit\n---\n\n# A card\n")
    (folder / "report.json").write_text("{}\n")
    trained = {"net": {"n_train": 7, "sources": {"busi": 7}, "epochs": 3, "start": {"source": "weights of a test"}}}
    (folder / "training.json").write_text(json.dumps(trained))
    (folder / "plots").mkdir()
    (folder / manifest.members[0].name / "plots").mkdir()
    for plot in ("plots/roc_curve", "plots/confusion_matrix_balanced", f"{manifest.members[0].name}/plots/roc_curve"):
        (folder / f"{plot}.png").write_bytes(b"\x89PNG of a test")
    (folder / "out_of_fold.parquet").write_bytes(b"stays here")
    (folder / "notes.txt").write_text("stays here")
    return folder
