"""`push_to_hub` of the real client, whose calls to the Hub end in a folder: what it would send keeps every feature."""

from types import SimpleNamespace

import huggingface_hub
import numpy as np

from bus_hf.data.dataset import cases, load
from bus_hf.data.phantoms import write_phantoms


def test_what_is_pushed_keeps_features_masks_and_labels(tmp_path, monkeypatch):
    hub = tmp_path / "hub"

    def keep(operations):
        for one in operations:
            target = hub / one.path_in_repo
            # Shards are sent before the commit that names them, and deleted in between.
            if isinstance(one, huggingface_hub.CommitOperationAdd) and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with one.as_file() as file:
                    target.write_bytes(file.read())

    known = SimpleNamespace(id="org/name", sha="0" * 40, oid="0" * 40, siblings=[], commit_url="", pr_url=None)
    answers = {
        "create_repo": lambda self, *a, **k: huggingface_hub.RepoUrl("https://huggingface.co/datasets/org/name"),
        "preupload_lfs_files": lambda self, *a, additions, **k: keep(additions),
        "create_commit": lambda self, *a, operations, **k: keep(operations) or known,
        "list_repo_tree": lambda self, *a, **k: iter(()),
        "repo_info": lambda self, *a, **k: known,
        "dataset_info": lambda self, *a, **k: known,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(huggingface_hub.HfApi, name, answer)
    monkeypatch.setattr(huggingface_hub.HfFileSystem, "glob", lambda self, *a, **k: [])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    write_phantoms(tmp_path / "busi", 2)
    before = load(tmp_path / "busi")
    before.push_to_hub("org/name", token="hf_of_a_test")
    after = load(hub)
    assert after["train"].features == before["train"].features
    pairs = list(zip(cases(before["train"]), cases(after["train"]), strict=True))
    assert len(pairs) == 6
    for one, other in pairs:
        assert (one.name, one.group, one.label) == (other.name, other.group, other.label)
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.mask, other.mask)
