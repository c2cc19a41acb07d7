"""A network of another label set beside the ensemble: shipped when it is any good, asked for, without a say."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import timm
import torch

from bus_hf import labels, models
from bus_hf.build import lesion_type
from bus_hf.cli import main
from bus_hf.data.phantoms import phantom
from bus_hf.ensemble.folder import read_manifest, sha256, write_manifest
from bus_hf.ensemble.manifest import LesionType, Member
from bus_hf.errors import BusError
from bus_hf.evaluation import multiclass
from bus_hf.evaluation.calibration import fit_temperature
from bus_hf.filenames import CONFIG, LESION_TYPE, MANIFEST, WEIGHTS
from bus_hf.hub.upload import plan
from bus_hf.inference.detector import BreastCancerDetector
from bus_hf.views import VIEW_WEIGHTS, cut, window
from tests.records import run_record

HISTOLOGY = labels.LABEL_SETS["histology"]


@pytest.fixture(scope="module")
def offered(tmp_path_factory, make_ensemble):
    """An ensemble of two members with a lesion-type classifier, all of random weights."""
    folder = tmp_path_factory.mktemp("offered")
    manifest = make_ensemble(folder)
    torch.manual_seed(7)
    net = timm.create_model("test_resnet", num_classes=4)
    torch.nn.init.normal_(net.get_classifier().weight, std=2.0)
    home = folder / LESION_TYPE
    models.save_member(home, net.eval(), HISTOLOGY, 64)
    hashes = [sha256(home / name) for name in (WEIGHTS, CONFIG)]
    member = Member("histology", home.name, None, None, hashes[0], 1.0, config_sha256=hashes[1])
    second = LesionType("histology", HISTOLOGY.classes, member, 2.0)
    write_manifest(dataclasses.replace(manifest, lesion_type=second), folder)
    for name in ("README.md", "report.json", "training.json", *(f"{one.path}/README.md" for one in manifest.members)):
        (folder / name).write_text("{}")
    (home / "README.md").write_text("card")
    return folder


@pytest.fixture(scope="module")
def image():
    return phantom(np.random.default_rng(3), "malignant")[0]


def test_it_is_the_softmax_of_the_weighted_views_and_changes_nothing_else(offered, image):
    detector = BreastCancerDetector.from_pretrained(offered)
    plain, asked = detector.predict(image), detector.predict(image, lesion_type=True)
    assert plain.lesion_type is None
    assert dataclasses.replace(asked, lesion_type=None) == plain
    net = models.load_member(offered / LESION_TYPE)
    mean, std = (torch.tensor(net.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    logits = torch.zeros(4)
    for view, weight in VIEW_WEIGHTS.items():
        square = torch.tensor(cut(image, window(view, image.shape, asked.box), 64)).float() / 255
        with torch.inference_mode():
            logits += weight * net(((square[None] - mean) / std)[None])[0]
    expected = torch.softmax(logits / 2.0, 0)
    assert list(asked.lesion_type) == list(HISTOLOGY.classes)
    assert list(asked.lesion_type.values()) == pytest.approx(expected.tolist(), abs=1e-4)
    assert expected.max() > 0.3, "the test must be able to tell the classes apart"


def test_many_and_the_light_choice_offer_it_too(offered, image):
    light = BreastCancerDetector.from_pretrained(offered, members=["light"])
    one, other = light.predict_many([image, image.T.copy()], lesion_type=True)
    assert sum(one.lesion_type.values()) == pytest.approx(1)
    assert one.lesion_type != other.lesion_type
    assert list(one.members) == ["test_efficientnet"]


def test_asking_where_there_is_none_is_one_sentence(tiny_ensemble, image):
    detector = BreastCancerDetector.from_pretrained(tiny_ensemble)
    with pytest.raises(BusError, match="has no lesion-type classifier"):
        detector.predict(image, lesion_type=True)
    with pytest.raises(BusError, match="has no lesion-type classifier"):
        detector.predict_many([image], lesion_type=True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"label_set": "malignancy"}, "give one of several classes"),
        ({"labels": ["cyst"]}, "not those of 'histology'"),
        ({"temperature": 0}, "temperature is 0"),
        ({"extra": 1}, "unknown key 'extra'"),
    ],
)
def test_a_wrong_entry_is_one_sentence(offered, tmp_path, change, sentence):
    data = json.loads((offered / MANIFEST).read_text())
    data["lesion_type"] |= change
    (tmp_path / MANIFEST).write_text(json.dumps(data))
    with pytest.raises(BusError, match=sentence):
        read_manifest(tmp_path)


def test_another_file_in_its_place_is_refused(offered, tmp_path):
    shutil.copytree(offered, tmp_path / "copy")
    path = tmp_path / "copy" / LESION_TYPE / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BusError, match="SHA-256 differs"):
        BreastCancerDetector.from_pretrained(tmp_path / "copy")


def test_a_push_sends_it_as_a_repository_of_its_own(offered):
    uploads = plan(offered, "org/tiny")
    assert [one.repo_id for one in uploads][-2:] == ["org/tiny-histology", "org/tiny"]
    assert set(uploads[-2].files) == {"README.md", "config.json", WEIGHTS}


def test_the_command_line_prints_it_when_asked(offered, tmp_path, image, capsys):
    import cv2

    cv2.imwrite(str(tmp_path / "scan.png"), image)
    command = ["predict", str(tmp_path / "scan.png"), "--ensemble", str(offered)]
    assert main(command) == 0
    assert "lesion-type classifier" not in capsys.readouterr().out
    assert main([*command, "--lesion-type", "--csv", str(tmp_path / "table.csv")]) == 0
    assert "lesion type: cyst " in capsys.readouterr().out
    assert "fibroadenoma" in (tmp_path / "table.csv").read_text()
    assert main([*command, "--lesion-type", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["lesion_type"]) == set(HISTOLOGY.classes)


def test_the_page_shows_it_marked_as_such(offered, image):
    from bus_hf.space import html
    from bus_hf.space.arguments import Settings
    from bus_hf.space.shared_detector import SharedDetector

    detector = SharedDetector(str(offered))
    result = detector.predict(image, Settings())
    assert "Lesion-type" not in html.verdict(result, detector.operating_point(result))
    shown = html.verdict(detector.predict(image, Settings(lesion_type=True)), detector.operating_point(result))
    assert "Lesion-type classifier" in shown
    assert "does not change the probability above" in shown
    assert shown.count("<li>") == 2 + 4


@pytest.fixture
def finished(tmp_path):
    """Two finished runs of one split, as training leaves them; `good` logits tell the classes apart."""

    def make(good):
        chance = np.random.default_rng(0)
        runs = []
        for fold in range(2):
            run = tmp_path / f"run-{fold}"
            torch.manual_seed(fold)
            models.save_member(run / "checkpoint", timm.create_model("test_resnet", num_classes=4), HISTOLOGY, 64)
            rows = []
            for n in range(80):
                label = n % 4
                logits = chance.normal(size=4) + (2.0 * np.eye(4)[label] if good else 0)
                facts = {"name": f"{fold}-{n}", "group": f"{fold}-{n}", "source": "busbra", "fold": fold}
                facts |= {"member": "test_resnet", "label": label, "pathology": "benign"}
                for view in VIEW_WEIGHTS:
                    rows.append(facts | {"view": view} | {f"logit_{k}": value for k, value in enumerate(logits)})
            pd.DataFrame(rows).to_parquet(run / "out_of_fold.parquet", index=False)
            record = run_record(label_set="histology", fold=fold, config={"fold": fold, "lr": 0.001})
            (run / "run.json").write_text(json.dumps(record))
            (run / "history.json").write_text("[]")
            runs.append(run)
        return runs

    return make


def test_the_first_runs_network_ships_with_a_temperature_of_its_own_fold(finished, tmp_path):
    runs = finished(good=True)
    lesion_type.ship(runs, tmp_path / "made")
    entry = lesion_type.manifest_entry(tmp_path / "made")
    home = tmp_path / "made" / LESION_TYPE
    assert entry.labels == HISTOLOGY.classes
    assert entry.member.sha256 == sha256(runs[0] / "checkpoint" / WEIGHTS)
    own = pd.read_parquet(runs[0] / "out_of_fold.parquet").query("view == 'whole'")
    fitted = fit_temperature(own[[f"logit_{k}" for k in range(4)]].to_numpy(), own["label"].to_numpy())
    assert entry.temperature == pytest.approx(fitted, abs=1e-4)
    card = (home / "README.md").read_text()
    assert card.startswith("---\n")
    assert "fold 0, 1 of 2 held out" in card
    assert "no say in the ensemble's" in " ".join(card.split())
    assert json.loads((home / "report.json").read_text())["all"]["n"] == 160


def test_its_temperature_is_of_the_views_that_it_is_read_by(finished, tmp_path):
    lesion_type.ship(finished(good=True), tmp_path / "made")
    path = tmp_path / "made" / LESION_TYPE / "out_of_fold.parquet"
    frame = pd.read_parquet(path)
    frame.loc[frame["view"] == "around", [f"logit_{k}" for k in range(4)]] *= 3
    frame.to_parquet(path, index=False)
    default, without = (
        lesion_type.manifest_entry(tmp_path / "made", views) for views in (VIEW_WEIGHTS, {"whole": 1.0})
    )
    assert default.temperature > without.temperature * 1.2


def test_what_is_no_better_than_chance_does_not_ship(finished, tmp_path):
    runs = finished(good=False)
    with pytest.raises(BusError, match="better than by chance"):
        lesion_type.ship(runs, tmp_path / "made")
    assert lesion_type.manifest_entry(tmp_path / "made") is None
    assert not (tmp_path / "made").exists()
    assert not multiclass.better_than_chance({"all": {"by_class": {"a": {"auroc": {"low": 0.4}}}}})
