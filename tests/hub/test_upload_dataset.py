"""A data set to the Hub and back by the real clients: equal rows, an honest card, terms that are asked about."""

import json
import re
import shutil

import numpy as np
import pytest
import yaml

from bus_hf.cli import main
from bus_hf.data.dataset import cases, load
from bus_hf.data.phantoms import write_phantoms
from bus_hf.errors import BusError
from bus_hf.hub import upload_dataset

BACK = """
import datasets
found = datasets.load_dataset("org/data", split="train")
print(sorted((row["name"], row["group"], row["fold"], row["label"], row["image"].size) for row in found))
print(found.features["label"].names, found.features["image"], found.features["mask"])
"""
STREAMED = """
import numpy as np
from bus_hf.data.dataset import cases, load
from bus_hf.data.streaming import stream
plain, streamed = cases(load("org/data")["train"]), stream("org/data")
assert [case.name for case in plain] == [case.name for case in streamed]
for one, other in zip(plain, streamed):
    assert (one.label, one.group) == (other.label, other.group)
    assert np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)
print(len(streamed))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Phantoms in BUSI's layout, one of them there twice, and once more in another class."""
    folder = tmp_path_factory.mktemp("images") / "busi"
    write_phantoms(folder, 9, 0)
    benign = sorted(path for path in (folder / "benign").glob("*.png") if "_mask" not in path.name)
    shutil.copy(benign[0], folder / "benign" / "again.png")
    malignant = sorted(path for path in (folder / "malignant").glob("*.png") if "_mask" not in path.name)
    shutil.copy(malignant[0], folder / "benign" / "contradicts.png")
    return folder


@pytest.fixture
def pushed(client, hub, images):
    done = client("-m", "bus_hf.cli", "push", "dataset", images, "--to", "org/data", "--may-redistribute", "--json")
    assert done.returncode == 0, done.stderr
    return hub.repos["dataset", "org/data"]


def test_what_comes_back_is_what_went(pushed, client, images):
    done = client("-c", BACK)
    assert done.returncode == 0, done.stderr
    rows = eval(done.stdout.splitlines()[0])
    before = {case.name: case for case in cases(load(images)["train"])}
    assert [row[0] for row in rows] == sorted(before)
    for name, _, _, label, size in rows:
        assert label == before[name].label
        assert size == before[name].image.shape[::-1]
    groups = {name: group for name, group, *_ in rows}
    folds = {name: fold for name, _, fold, *_ in rows}
    twin = next(name for name in groups if name != "busi/benign/again" and groups[name] == groups["busi/benign/again"])
    assert folds[twin] == folds["busi/benign/again"] is not None
    assert folds["busi/benign/contradicts"] is None
    homes = {}
    for name, group in groups.items():
        homes.setdefault(group, set()).add(folds[name])
    assert all(len(home) == 1 for home in homes.values())
    assert {fold for fold in folds.values() if fold is not None} == {0, 1, 2, 3, 4}


def test_the_card_tells_features_splits_and_figures_of_the_data(pushed, images):
    text = pushed.head.files["README.md"][0].decode()
    front = yaml.safe_load(text.split("---")[1])
    count = len(load(images)["train"])
    (split,) = front["dataset_info"]["splits"]
    assert (split["name"], split["num_examples"]) == ("train", count)
    assert {one["name"] for one in front["dataset_info"]["features"]} >= {"image", "mask", "label", "group", "fold"}
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert front["size_categories"] == ["n<1K"]
    assert f"{count} images in" in text
    assert "1 of which contradict themselves" in text
    terms = pushed.head.files["LICENSE"][0].decode()
    assert "| BUSI | published for research" in terms
    assert "BUS-BRA" not in terms, "terms of a source that is not there"
    assert 'load_dataset("org/data")' in text
    assert "official 5-fold split" not in text


def test_the_same_again_makes_no_commit(pushed, client, images):
    before = pushed.head.oid
    done = client("-m", "bus_hf.cli", "push", "dataset", images, "--to", "org/data", "--may-redistribute", "--json")
    assert json.loads(done.stdout)[0]["changed"] is False
    assert pushed.head.oid == before


def test_fewer_shards_leave_none_of_the_earlier_ones(hub, images, tmp_path, client):
    script = (
        "import sys, pathlib; from bus_hf.hub.upload_dataset import plan, push; _, size, images, folder = sys.argv;"
        "push(plan([images], 'org/data', pathlib.Path(folder), may_redistribute=True, shard_bytes=int(size)))"
    )
    for size, folder in ((200_000, "many"), (400_000_000, "one")):
        (tmp_path / folder).mkdir()
        done = client("-c", script, size, images, tmp_path / folder)
        assert done.returncode == 0, done.stderr
    first, last = hub.repos["dataset", "org/data"].commits[1:]
    assert sum(name.endswith(".parquet") for name in first.files) > 1
    assert [name for name in last.files if name.startswith("data/")] == ["data/train-00000-of-00001.parquet"]


def test_streaming_reads_the_same_cases(pushed, client):
    done = client("-c", STREAMED)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_training_streams_from_the_hub_and_pushes_its_member(pushed, hub, client, tmp_path):
    small = [
        "--backbone",
        "test_resnet",
        "--init",
        "random",
        "--input_size",
        "64",
        "--epochs",
        "1",
        "--batch_size",
        "8",
    ]
    small += ["--num_workers", "0", "--drop_path_rate", "0", "--trackers", "--output", tmp_path / "run"]
    done = client("train_accelerate.py", "--data", "org/data", "--streaming", *small, "--push_to_hub", "org/member")
    assert done.returncode == 0, done.stderr
    files = hub.model("org/member").head.files
    assert set(files) >= {"README.md", "config.json", "model.safetensors", "graph.onnx", "lesion_head.safetensors"}
    card = files["README.md"][0].decode()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "timm"
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert f"trained on {record['n_train']} images" in card
    assert "weight in the ensemble" not in card
    # So few held-out images carry no figure, and the card says so.
    assert re.search(r"None: there are \d+ malignant patients or lesions, and a calibration needs 10", card)
    assert "AUROC" not in card
    assert "push_to_hub" not in record["config"]


def test_what_cannot_be_streamed_is_one_true_sentence(monkeypatch):
    import datasets

    from bus_hf.data import streaming

    text = datasets.Value("string")
    rows = [{"source": "busi", "pathology": "unsure", "label": 0, "histology": None}]
    monkeypatch.setattr(streaming, "_rows", lambda *_: (datasets.Features({"pathology": text}), rows))
    with pytest.raises(BusError, match=r"rows of the class unsure in its column pathology; its columns are pathology"):
        streaming.stream("org/data")
    monkeypatch.undo()
    lacking = datasets.Dataset.from_dict({"image": [1]}).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": lacking})
    with pytest.raises(BusError, match=r"has no column .*pathology.*; its columns are image;"):
        streaming.stream("org/data")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"test": lacking})
    with pytest.raises(BusError, match=r"org/data: there are only images of the split test, and none to train on"):
        streaming.stream("org/data")


def test_terms_that_do_not_allow_it_are_asked_about(images, tmp_path, capsys):
    assert main(["push", "dataset", str(images), "--to", "org/data", "--dry-run"]) == 2
    assert "ask whoever holds the rights" in capsys.readouterr().err
    assert main(["push", "dataset", str(images), "--to", "org/data", "--dry-run", "--may-redistribute", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["files"] == ["data/train-00000-of-00001.parquet", "README.md", "LICENSE"]
    with pytest.raises(BusError, match="no Hub id"):
        upload_dataset.plan([images], "data", tmp_path)


def test_what_stands_in_train_and_test_gets_no_fold(tmp_path):
    write_phantoms(tmp_path / "training_set", 9, 0)
    write_phantoms(tmp_path / "testing_set", 2, 1)
    image = sorted((tmp_path / "training_set" / "benign").glob("*.png"))[0]
    shutil.copy(image, tmp_path / "testing_set" / "benign" / "copy.png")
    shutil.rmtree(tmp_path / "training_set" / "normal")
    splits, _ = upload_dataset.prepare(tmp_path)
    groups = {row["group"] for row in splits["test"].select_columns("group")}
    across = [row for row in splits["train"].select_columns(["group", "fold"]) if row["group"] in groups]
    assert len(across) == 1
    assert across[0]["fold"] is None
    assert set(splits["test"]["fold"]) == {None}
    shutil.rmtree(tmp_path / "training_set")
    with pytest.raises(BusError, match="no images to train on"):
        upload_dataset.prepare(tmp_path)


def test_large_data_are_cut_into_shards(images, tmp_path):
    upload = upload_dataset.plan([images], "org/data", tmp_path, may_redistribute=True, shard_bytes=200_000)
    shards = [name for name in upload.files if name.endswith(".parquet")]
    assert len(shards) > 1
    back = cases(load(tmp_path)["train"])
    assert sorted(case.name for case in back) == sorted(load(images)["train"]["name"])
    assert all(np.any(case.image) for case in back)
