import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from bus_hf import BreastCancerDetector
from bus_hf.build.assemble import assemble
from bus_hf.build.describe import redescribe
from bus_hf.build.readme import readme_metrics
from bus_hf.config import TrainConfig
from bus_hf.data.dataset import cases, load
from bus_hf.ensemble.folder import read_manifest, sha256, verify
from bus_hf.errors import BusError
from bus_hf.evaluation import calibration
from bus_hf.reporting import cards, plots
from bus_hf.training.run import run

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two tiny members trained on the same phantoms with the same fold left out, and one with another fold."""
    folder = tmp_path_factory.mktemp("runs")
    config = TrainConfig(
        phantoms=66,
        output=str(folder / "one"),
        logging_dir=str(folder / "logs"),
        backbone="test_efficientnet",
        init="random",
        input_size=64,
        epochs=1,
        batch_size=16,
        folds=3,
        drop_path_rate=0.0,
        num_workers=0,
        trackers=(),
    )
    run(config)
    data = (str(folder / "one" / "phantoms"),)
    boxes = str(folder / "one" / "out_of_fold.parquet")
    run(replace(config, output=str(folder / "two"), backbone="test_resnet", data=data, boxes=boxes))
    run(replace(config, output=str(folder / "other"), backbone="test_resnet", data=data, fold=1))
    return folder


@pytest.fixture(scope="module")
def made(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "ensemble"
    return assemble([runs / "one", runs / "two"], folder, weights={"test_efficientnet": 3.0, "test_resnet": 1.0})


def test_folder_is_a_whole_ensemble(made):
    manifest = read_manifest(made)
    verify(made, manifest)
    assert [member.weight for member in manifest.members] == [0.75, 0.25]
    assert manifest.light == manifest.lesion_map.member == "test_efficientnet"
    assert manifest.fitted_on.out_of_fold_sha256 == sha256(made / "out_of_fold.parquet")
    drawn = {path.name for path in (made / "plots").glob("*.png")}
    assert drawn == {f"{name}.png" for name in cards.PLOTS} | {
        f"confusion_matrix_{point.name}.png"
        for point in manifest.operating_points
        if point.name != manifest.default_operating_point
    }
    for home, drawn_there in ((made, drawn), (made / "test_resnet", drawn | {"training_history.png"})):
        assert {path.name for path in (home / "plots").iterdir()} == drawn_there
        assert set(re.findall(r"\(plots/([^)]+)\)", (home / "README.md").read_text())) == drawn_there
    for card in (made / "README.md", made / "test_resnet" / "README.md"):
        assert "Intended use" in card.read_text()


def test_detector_says_what_the_out_of_fold_logits_say(made, runs):
    # Training and serving must read the same views in the same way: same boxes, same logits, but for fp16 weights.
    manifest = read_manifest(made)
    frame = pd.read_parquet(made / "out_of_fold.parquet")
    light = frame[frame["member"] == manifest.light]
    detector = BreastCancerDetector.from_pretrained(made, members=["light"], device="cpu")
    known = {case.name: case for case in cases(load(runs / "one" / "phantoms")["train"])}
    for name, rows in list(light.groupby("name"))[:6]:
        weights = rows["view"].map(manifest.views).to_numpy()
        logit = float((rows["logit_0"] * weights).sum()) / manifest.temperature + manifest.bias
        result = detector.predict(known[name].image)
        assert result.probability == pytest.approx(1 / (1 + np.exp(-logit)), abs=0.01)
        box = rows.iloc[0]
        if result.box is None:
            assert np.isnan(box["box_w"])
        else:
            assert result.box == pytest.approx(tuple(box[f"box_{side}"] for side in "xywh"), abs=2)


def test_describing_again_changes_nothing(made):
    before = {path: path.read_bytes() for path in made.rglob("*") if path.suffix in (".json", ".md", ".parquet")}
    redescribe(made)
    assert {path: path.read_bytes() for path in before} == before


def test_changed_logits_change_the_metrics(made, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    frame = pd.read_parquet(copy / "out_of_fold.parquet")
    frame["logit_0"] = -frame["logit_0"]
    frame.to_parquet(copy / "out_of_fold.parquet", index=False)
    before = json.loads((made / "report.json").read_text())["overall"]["auroc"]["value"]
    redescribe(copy)
    after = json.loads((copy / "report.json").read_text())["overall"]["auroc"]["value"]
    assert after == pytest.approx(1 - before, abs=1e-6)
    assert f"{after:.3f}" in readme_metrics(copy)


def test_runs_that_held_out_other_images_are_refused(runs, tmp_path):
    with pytest.raises(BusError, match="held out different images"):
        assemble([runs / "one", runs / "other"], tmp_path / "x")
    with pytest.raises(BusError, match="same backbone"):
        assemble([runs / "two", runs / "other"], tmp_path / "x")


def test_a_lesion_crops_at_other_boxes_is_refused(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs / "two", other)
    frame = pd.read_parquet(other / "out_of_fold.parquet")
    frame.loc[frame["name"] == frame["name"].iloc[-1], ["box_x", "box_y", "box_w", "box_h"]] = 10.0
    frame.to_parquet(other / "out_of_fold.parquet", index=False)
    with pytest.raises(BusError, match=r"test_resnet took other boxes.*--boxes"):
        assemble([runs / "one", other], tmp_path / "x")


def test_weights_are_fitted_where_that_pays_and_fitted_again(runs, tmp_path):
    folder = assemble([runs / "one", runs / "two"], tmp_path / "fitted")
    manifest, actual = read_manifest(folder), json.loads((folder / "report.json").read_text())
    weights = [member.weight for member in manifest.members]
    assert sum(weights) == pytest.approx(1)
    assert actual["weights"]["pays"] == (actual["weights"]["how"] == "by d′")
    if not actual["weights"]["pays"]:
        assert weights == [0.5, 0.5]
    # One member that sees the labels: all the weight, and describing again fits it again.
    frame = pd.read_parquet(folder / "out_of_fold.parquet")
    knows = frame["member"] == "test_resnet"
    rng = np.random.default_rng(0)
    frame["logit_0"] = np.where(knows, frame["label"] * 3 - 1.5 + 2 * rng.normal(size=len(frame)), 4 * rng.normal())
    frame.loc[~knows, "logit_0"] *= rng.normal(size=int((~knows).sum()))
    frame.to_parquet(folder / "out_of_fold.parquet", index=False)
    redescribe(folder)
    assert read_manifest(folder).members[1].weight > 0.6
    assert json.loads((folder / "report.json").read_text())["weights"]["how"] == "by d′"


def test_an_unfinished_run_and_wrong_weights_are_refused(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BusError, match="the run is not finished"):
        assemble([tmp_path / "empty"], tmp_path / "x")
    with pytest.raises(BusError, match="weights do not fit"):
        assemble([runs / "one"], tmp_path / "x", weights={"resnet50": 1.0})
    assert not (tmp_path / "x").exists()


def test_shipped_ensemble_is_whole_and_small():
    manifest = read_manifest(SHIPPED)
    verify(SHIPPED, manifest)
    light = SHIPPED / next(str(member.path) for member in manifest.members if member.name == manifest.light)
    assert sum(path.stat().st_size for path in light.iterdir()) < 20 * 2**20
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) < 60 * 10**6
    members = [path for member in manifest.members for path in (SHIPPED / str(member.path)).iterdir()]
    assert sum(path.stat().st_size for path in members) < 140 * 2**20
    assert sum(path.stat().st_size for path in files) < 150 * 2**20
    assert manifest.fitted_on.out_of_fold_sha256 == sha256(SHIPPED / "out_of_fold.parquet")


def test_shipped_lesion_type_was_measured_out_of_fold_and_calibrated_on_its_own_fold():
    actual = read_manifest(SHIPPED).lesion_type
    assert actual is not None
    home = SHIPPED / actual.member.path
    frame = pd.read_parquet(home / "out_of_fold.parquet").drop_duplicates("name")
    records = json.loads((home / "training.json").read_text())
    assert [record["fold"] for record in records] == list(range(records[0]["folds"]))
    assert frame.groupby("group")["fold"].nunique().max() == 1
    for record in records:
        assert record["n_held_out"] == (frame["fold"] == record["fold"]).sum()
        assert record["n_train"] + record["n_held_out"] == len(frame)
    report = json.loads((home / "report.json").read_text())
    assert min(row["auroc"]["low"] for row in report["all"]["by_class"].values()) > 0.5


def test_shipped_out_of_fold_images_share_no_group_with_training(shared_data):
    from bus_hf.config import EACH_SOURCE, from_mapping
    from bus_hf.training.identity import data_digests
    from bus_hf.training.splits import read_images, split

    frame = pd.read_parquet(SHIPPED / "out_of_fold.parquet")
    records = json.loads((SHIPPED / "training.json").read_text())
    configs = [from_mapping(record["config"], "training.json") for record in records.values()]
    config = configs[0]
    for other in configs:
        for key in ("folds", "fold", "split_seed", "near_duplicates", "set_apart", "train_sources", "hold_out"):
            assert getattr(other, key) == getattr(config, key)
    assert config.hold_out == EACH_SOURCE
    config = replace(config, data=tuple(str(shared_data / name) for name in ("busi", "busbra", "brest")))
    images = read_images(config)
    assert set(frame["source"]) == set(images.sources)
    for source, rows in frame.groupby("source"):
        data = split(replace(config, hold_out=source), images)
        assert set(rows["name"]) == {case.name for case in data.held_out(0)}
        groups = {case.group for case in data.held_out(0)}
        assert not groups & {case.group for case in data.training(0)}
    digests = data_digests(images.cases, images.cases)
    assert all(record["data_sha256"] == digests for record in records.values())


def state(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copied(runs, tmp_path):
    """The first run, to be spoiled."""
    return Path(shutil.copytree(runs / "one", tmp_path / "run"))


def spoiled(path, value):
    tensors = load_file(path)
    first = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.ndim)
    tensors[first].view(-1)[0] = value
    save_file(tensors, path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("file", ["out_of_fold.parquet", "model.safetensors", "lesion_head.safetensors"])
def test_what_is_not_finite_is_refused_and_the_old_folder_stays(runs, made, tmp_path, value, file):
    run, folder = copied(runs, tmp_path), tmp_path / "made"
    shutil.copytree(made, folder)
    before = state(folder)
    if file == "out_of_fold.parquet":
        frame = pd.read_parquet(run / file)
        frame.loc[3, "logit_0"] = value
        frame.to_parquet(run / file, index=False)
    else:
        spoiled(run / "checkpoint" / file, value)
    with pytest.raises(BusError, match=r"not finite.*train"):
        assemble([run], folder)
    assert state(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "run"]


def test_a_failure_at_the_very_end_leaves_the_old_folder(runs, made, tmp_path, monkeypatch):
    folder = tmp_path / "made"
    shutil.copytree(made, folder)
    before = state(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "training_history", full)
    for call in (lambda: assemble([runs / "one"], folder), lambda: redescribe(folder)):
        with pytest.raises(BusError, match=f"^{folder}: it cannot be written"):
            call()
        assert state(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_members_are_their_files_and_nothing_else(runs, tmp_path):
    run = copied(runs, tmp_path)
    (run / "checkpoint" / ".netrc").write_text("secret")
    (run / "checkpoint" / "link.txt").symlink_to("/etc/hostname")
    (run / "checkpoint" / "optimizer.pt").write_bytes(b"pickle")
    folder = assemble([run], tmp_path / "made")
    home = folder / "test_efficientnet"
    assert {path.name for path in home.iterdir()} == {
        "config.json", "model.safetensors", "graph.onnx", "lesion_head.safetensors", "README.md", "plots"
    }  # fmt: skip
    verify(folder, read_manifest(folder))


def test_every_member_has_a_graph_and_the_light_ones_finds_the_lesion(made):
    outputs = {}
    for member in read_manifest(made).members:
        assert member.graph_sha256 == sha256(made / member.path / "graph.onnx")
        graph = onnx.load(made / member.path / "graph.onnx", load_external_data=False).graph
        outputs[member.name] = [output.name for output in graph.output]
    assert outputs == {"test_efficientnet": ["logits", "cam", "lesion"], "test_resnet": ["logits", "cam"]}


def test_cards_of_phantoms_speak_of_phantoms(made):
    for text in (*(path.read_text() for path in made.rglob("README.md")), readme_metrics(made)):
        assert "BUSI**" not in text
        assert "BUSI" not in text
        assert "hospitals" not in text
        assert "screening population" not in text
    assert "generated pictures" in (made / "README.md").read_text()


def test_a_card_counts_its_members(made, runs, tmp_path):
    assert "\n2 timm members behind one manifest" in (made / "README.md").read_text()
    alone = assemble([runs / "one"], tmp_path / "alone")
    assert "\n1 timm member behind one manifest" in (alone / "README.md").read_text()


def test_data_without_normals_and_with_few_lesions_is_described(runs, tmp_path):
    run = copied(runs, tmp_path)
    frame = pd.read_parquet(run / "out_of_fold.parquet")
    frame = frame[frame["pathology"] != "normal"]
    for kept, words in ((12, "too few to fit the peak on"), (None, None)):
        names = frame.groupby("label")["name"].unique().map(list)
        names = [name for own in names for name in own[:kept]]
        frame[frame["name"].isin(names)].to_parquet(run / "out_of_fold.parquet", index=False)
        folder = assemble([run], tmp_path / "made")
        card = (folder / "README.md").read_text()
        assert "normal: " not in card
        if words:
            assert words in card
            assert "set beforehand, not fitted on these images" in card
            manifest = read_manifest(folder)
            assert manifest.lesion_map.found_peak == manifest.lesion_map.min_peak
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".json", ".md")}
        redescribe(folder)
        assert {path: path.read_bytes() for path in before} == before


def test_too_few_cancers_are_refused_as_calibrate_does(runs, tmp_path):
    run = copied(runs, tmp_path)
    frame = pd.read_parquet(run / "out_of_fold.parquet")
    ill = frame.loc[frame["label"] == 1, "name"].unique()
    for kept, points in ((9, 0), (12, 1), (20, 2)):
        few = frame[~frame["name"].isin(ill[kept:])]
        few.to_parquet(run / "out_of_fold.parquet", index=False)
        if points:
            manifest = read_manifest(assemble([run], tmp_path / "made"))
            assert [point.name for point in manifest.operating_points] == list(calibration.POINTS)[:points]
            assert manifest.default_operating_point == manifest.operating_points[-1].name
            assert (manifest.abstain is None) == (kept < 20)
            assert manifest.fitted_on.prevalence == pytest.approx(few.drop_duplicates("name")["label"].mean(), abs=1e-6)
            readme_metrics(tmp_path / "made")
        else:
            with pytest.raises(BusError, match="9 malignant patients or lesions, and a calibration needs 10"):
                assemble([run], tmp_path / "made")
            assert not (tmp_path / "made").exists()
