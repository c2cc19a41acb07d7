"""Images, labelled images and an ensemble that commands are given."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from bus_hf.cli import main
from bus_hf.config import TrainConfig, to_mapping
from bus_hf.data.phantoms import phantom, write_phantoms
from bus_hf.views import VIEWS


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """A folder of three phantoms, one of them deeper, with a mask, a hidden file and a text beside them."""
    folder = tmp_path_factory.mktemp("scans")
    (folder / "deep").mkdir()
    for index, name in enumerate(("a.png", "b.png", "deep/c.png")):
        image, mask = phantom(np.random.default_rng(index), ("normal", "benign", "malignant")[index])
        cv2.imwrite(str(folder / name), image)
    cv2.imwrite(str(folder / "a_mask.png"), mask.astype(np.uint8) * 255)
    shutil.copy(folder / "a.png", folder / ".hidden.png")
    (folder / "notes.txt").write_text("nothing to read here")
    return folder


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """A small labelled data set of phantoms, one image of which is there twice, once in each class."""
    folder = tmp_path_factory.mktemp("labelled") / "phantoms"
    write_phantoms(folder, 4, seed=1)
    source = next(path for path in sorted((folder / "benign").iterdir()) if "_mask" not in path.stem)
    shutil.copy(source, folder / "malignant" / "copy.png")
    return folder


@pytest.fixture
def predict(tiny_ensemble):
    return lambda *arguments: main(["predict", "--ensemble", str(tiny_ensemble), *map(str, arguments)])


def out_of_fold(members, sources=("busi", "busbra"), seed=0):
    """Made-up logits of 80 images: malignant ones two higher than benign ones."""

    rng = np.random.default_rng(seed)
    rows = []
    for number in range(80):
        label = number % 2
        facts = {
            "name": f"{sources[number // 40]}/{number}",
            "source": sources[number // 40],
            "group": f"group-{number // 2 * 2 + label}",
            "label": label,
            "fold": 0,
            "pathology": "malignant" if label else "benign",
            "birads": str(2 + label),
            "histology": None,
            "device": None,
            "height": 200,
            "width": 300,
            "peak": 0.9,
            "box_iou": 0.7,
            "pointing_hit": 1.0,
            "energy_inside": 0.6,
        }
        facts |= {f"{kind}_{side}": 50.0 for kind in ("box", "mask") for side in "xywh"}
        for member in members:
            for view in VIEWS:
                rows.append(facts | {"member": member, "view": view, "logit_0": 2 * label + rng.normal()})
    return pd.DataFrame(rows)


def finished_run(folder, ensemble, member):
    """A finished training run as the trainer leaves it, around a member of a tiny ensemble."""
    folder.mkdir(parents=True)
    shutil.copytree(ensemble / member, folder / "checkpoint")
    out_of_fold([member]).to_parquet(folder / "out_of_fold.parquet")
    record = {
        "architecture": member,
        "label_set": "malignancy",
        "input_size": 64,
        "start": {"kind": "random", "source": "random", "licence": "none needed", "taken": 0, "fresh": 9},
        "epochs": 2,
        "kept": "last epoch",
        "fold": 0,
        "folds": 5,
        "n_train": 320,
        "n_held_out": 80,
        "n_left_out": 3,
        "near_duplicate_pairs": 4,
        "sources": {"busi": 160, "busbra": 160},
        "seconds": 1,
        "config": to_mapping(TrainConfig()),
    }
    (folder / "run.json").write_text(json.dumps(record))
    row = {"loss": 1.0, "loss_classes": 1.0, "loss_lesion": 0.0, "loss_inside": 0.0, "lr": 0.1, "seconds": 1.0}
    (folder / "history.json").write_text(json.dumps([row | {"epoch": n + 1.0, "auroc": 0.5 + n / 9} for n in range(2)]))
    return folder


@pytest.fixture(scope="session")
def assembled(tiny_ensemble, tmp_path_factory):
    """An ensemble folder that the command made of a run."""
    folder = tmp_path_factory.mktemp("assembled")
    run = finished_run(folder / "run", tiny_ensemble, "test_efficientnet")
    assert (
        main(["build", "ensemble", str(run), "--to", str(folder / "ensemble"), "--name", "mine", "--version", "2.0.0"])
        == 0
    )
    return folder / "ensemble"
