"""A site's own thresholds: from a table of labelled images to an ensemble folder that reads."""

import csv
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from bus_hf import BreastCancerDetector
from bus_hf.build import site_calibration
from bus_hf.cli import main
from bus_hf.data.phantoms import phantom
from bus_hf.ensemble.folder import read_manifest, sha256, verify
from bus_hf.ensemble.manifest import LesionType, Member
from bus_hf.errors import BusError
from bus_hf.evaluation import calibration, combine, metrics
from bus_hf.reporting import site
from bus_hf.space.about import about

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """24 phantoms with a table of labels and patients."""
    folder = tmp_path_factory.mktemp("site")
    rows = []
    for index in range(24):
        kind = "malignant" if index % 2 else "benign"
        # The random weights of the tiny ensemble find benign phantoms the more suspicious ones.
        image, _ = phantom(np.random.default_rng(index), kind)
        kind = "benign" if kind == "malignant" else "malignant"
        cv2.imwrite(str(folder / f"scan{index}.png"), image)
        rows.append({"name": f"scan{index}.png", "label": kind, "patient": f"p{index}"})
    return folder, rows


def table(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_a_site_gets_an_ensemble_that_reads(hospital, tiny_ensemble, tmp_path, capsys):
    folder, rows = hospital
    labels = table(tmp_path / "labels.csv", rows)
    command = ["calibrate", str(folder), "--labels", labels, "--to", str(tmp_path / "mine"), "--ensemble"]
    assert main([*command, str(tiny_ensemble), "--json"]) == 0
    out = capsys.readouterr()
    actual = json.loads(out.out)
    assert (actual["n"], actual["n_malignant"], actual["n_groups"]) == (24, 12, 24)
    assert "only 12 malignant" in out.err
    assert "miss_25_in_1000 is left out" in out.err
    # The tiny ensemble had a more sensitive default.
    assert "default operating point is now miss_10_in_100 in place of miss_5_in_100" in out.err
    manifest, before = read_manifest(tmp_path / "mine"), read_manifest(tiny_ensemble)
    verify(tmp_path / "mine", manifest)
    assert manifest.version.endswith("+site")
    assert manifest.fitted_on.sources == {"site": 24}
    assert [point.name for point in manifest.operating_points] == ["miss_10_in_100"]
    # The same logit under another temperature.
    image = folder / "scan3.png"
    one, other = (
        BreastCancerDetector.from_pretrained(path, device="cpu").predict(image)
        for path in (tiny_ensemble, tmp_path / "mine")
    )
    logit = (one.logit - before.bias) * before.temperature
    assert other.logit == pytest.approx(logit / manifest.temperature + manifest.bias, abs=1e-5)
    # Nothing of a patient or an image is stored.
    stored = "".join(path.read_text() for path in (tmp_path / "mine").glob("*.json"))
    assert "scan" not in stored
    assert "p3" not in stored
    # Again into the same folder replaces it; into one that holds something else is refused.
    assert main([*command, str(tiny_ensemble)]) == 0
    assert "| after |" in capsys.readouterr().out
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    command[command.index(str(tmp_path / "mine"))] = str(tmp_path / "other")
    assert main([*command, str(tiny_ensemble)]) == 2
    assert (tmp_path / "other" / "thesis.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: [{"file": "a", "label": "0"}], "columns name and label are missing"),
        (lambda rows: [rows[0] | {"label": "cyst"}, *rows[1:]], "line 2: the label is 'cyst'"),
        (lambda rows: [*rows, rows[0]], "line 26: 'scan0.png' is there twice"),
        (lambda rows: [rows[0] | {"name": "none.png"}], "no image 'none.png'"),
        (lambda rows: [rows[0] | {"name": "../labels.csv"}], "no image '../labels.csv'"),
        (lambda rows: rows[:8], "4 malignant patients or lesions"),
        (lambda rows: [row | {"patient": "same"} for row in rows], "every image is of a patient, a lesion or"),
    ],
)
def test_bad_tables_are_one_sentence(hospital, tiny_ensemble, tmp_path, capsys, change, sentence):
    folder, rows = hospital
    labels = table(tmp_path / "labels.csv", change(rows))
    command = ["calibrate", str(folder), "--labels", labels, "--to", str(tmp_path / "to"), "--ensemble"]
    assert main([*command, str(tiny_ensemble)]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_a_patient_with_lesions_of_both_labels(hospital, tiny_ensemble, tmp_path, capsys):
    folder, rows = hospital
    shared = [row | {"patient": "p0"} if row["patient"] == "p1" else row for row in rows]
    by_lesion = [row | {"lesion": str(number)} for number, row in enumerate(shared)]
    for name, given, left in (("whole", shared, 22), ("lesions", by_lesion, 24)):
        labels = table(tmp_path / f"{name}.csv", given)
        command = ["calibrate", str(folder), "--labels", labels, "--to", str(tmp_path / name), "--ensemble"]
        assert main([*command, str(tiny_ensemble), "--json"]) == 0
        out = capsys.readouterr()
        actual = json.loads(out.out)
        assert actual["n"] == left
        # One patient is one group, on one side of every split, however many lesions there are.
        assert actual["n_groups"] == left - (name == "lesions")
        assert ("2 images are excluded: 1 patients, lesions or sets" in out.err) == (name == "whole")
        assert ("name the lesion of each image in a column lesion" in out.err) == (name == "whole")


@pytest.mark.parametrize("text", ["nan", "-"])
def test_patients_who_are_not_known_stand_alone(hospital, tiny_ensemble, tmp_path, capsys, text):
    folder, rows = hospital
    labels = table(tmp_path / "labels.csv", [row | {"patient": text} for row in rows])
    command = ["calibrate", str(folder), "--labels", labels, "--to", str(tmp_path / "mine"), "--ensemble"]
    assert main([*command, str(tiny_ensemble), "--json"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["n_groups"] == 24
    assert "no patient is known" in out.err


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00name", b"name,label\n"])
def test_a_table_that_is_none(hospital, tiny_ensemble, tmp_path, capsys, content):
    (tmp_path / "labels.csv").write_bytes(content)
    command = ["calibrate", str(hospital[0]), "--labels", str(tmp_path / "labels.csv"), "--to", str(tmp_path / "to")]
    assert main([*command, "--ensemble", str(tiny_ensemble)]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def site_cases(n=300, slope=0.3):
    """A site where the ensemble is far over-confident."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    honest = 2 * (2 * labels - 1) + 2 * rng.normal(size=n)
    return site_calibration.SiteCases(honest / slope, labels, np.arange(n) // 2, np.full(n, "site"))


def test_the_fit_mends_what_is_wrong(tiny_ensemble):
    manifest, cases = read_manifest(tiny_ensemble), site_cases(slope=0.15)
    after, actual, warnings = site_calibration.fit(manifest, cases)
    assert warnings == []
    kept = calibration.Scale(manifest.temperature, manifest.bias)
    weights = cases.sample_weight
    assert (after.temperature, after.bias) == calibration.fit_scale(cases.logits, cases.y_true, kept, weights)
    assert actual["after"]["brier"]["value"] < actual["before"]["brier"]["value"]
    for point in after.operating_points:
        logits = cases.logits / after.temperature + after.bias
        target = calibration.POINTS[point.name]
        assert metrics.sensitivity(cases.y_true, logits >= point.logit, weights) >= target - 1e-9
        assert point.sensitivity[0] == pytest.approx(target, abs=0.04)
    assert after.default_operating_point == manifest.default_operating_point


def test_too_few_of_a_class_are_refused(tiny_ensemble):
    cases = site_cases(16)
    with pytest.raises(BusError, match="a calibration needs 10"):
        site_calibration.fit(read_manifest(tiny_ensemble), cases)


def made(benign, malignant):
    """Cases with the given logits, each a patient of its own."""
    labels = np.repeat([0, 1], (len(benign), len(malignant)))
    return site_calibration.SiteCases(
        np.r_[benign, malignant].astype(float), labels, np.arange(len(labels)), np.full(len(labels), "site")
    )


def noisy(n, shift=0.0, scale=1.0, seed=0):
    """n + n cases whose logits are well calibrated at shift 0 and scale 1."""
    rng = np.random.default_rng(seed)
    benign, malignant = rng.normal(-1, np.sqrt(2), n), rng.normal(1, np.sqrt(2), n)
    return made(benign * scale + shift, malignant * scale + shift)


@pytest.fixture
def manifest(tiny_ensemble):
    return dataclasses.replace(read_manifest(tiny_ensemble), temperature=1.0, bias=0.0)


def test_separated_cases_keep_the_temperature_and_no_cancer_turns_benign(manifest):
    after, _, warnings = site_calibration.fit(manifest, made(np.linspace(-5, -1, 12), np.linspace(2, 6, 12)))
    assert after.temperature == manifest.temperature
    assert abs(after.bias) < 2
    assert any("the temperature is kept (1)" in warning for warning in warnings)
    assert any("to fit one takes 20 malignant and 10 benign" in warning for warning in warnings)
    assert [point.name for point in after.operating_points] == ["miss_10_in_100"]
    assert 0.3 < after.operating_points[0].threshold < 0.95
    # Cancers of 0.69 to 0.87 by the old calibration: found, or at least not "benign and sure".
    for chance in (0.69, 0.75, 0.87):
        logit = np.log(chance / (1 - chance)) + after.bias
        for point in after.operating_points:
            positive = logit >= point.logit
            assert positive or after.abstain.unsure(logit, positive)


@pytest.mark.parametrize("n", [12, 24, 60])
@pytest.mark.parametrize("gap", [0.5, 4.0, 40.0])
def test_between_separated_classes_nothing_is_benign_and_sure(manifest, n, gap):
    after, _, _ = site_calibration.fit(manifest, made(np.linspace(-4, -1, n), np.linspace(-1 + gap, 2 + gap, n)))
    low, high = -1 / after.temperature + after.bias, (-1 + gap) / after.temperature + after.bias
    for logit in np.linspace(low, high, 20)[1:-1]:
        for point in after.operating_points:
            if logit > manifest.abstain.high_logit:
                assert logit >= point.logit or after.abstain.unsure(logit, False)


@pytest.mark.parametrize("shift", [-3.0, 3.0])
def test_networks_that_lie_too_high_or_low_are_set_right(manifest, shift):
    cases = noisy(100, shift)
    after, actual, _ = site_calibration.fit(manifest, cases)
    assert after.bias == pytest.approx(-shift / after.temperature, abs=0.5)
    assert after.temperature == pytest.approx(1, abs=0.25)
    assert actual["after"]["ece"]["value"] < 0.1 < actual["before"]["ece"]["value"]
    assert after.fitted_on.prevalence == actual["prevalence"] == 0.5


@pytest.mark.parametrize(
    ("cases", "sentence"),
    [
        (made(np.linspace(1, 5, 12), np.linspace(-5, -1, 12)), r"AUROC 0\.00.*are the labels exchanged"),
        (made(np.linspace(-2, 3, 30), np.linspace(-3, 2, 30)), "are the labels exchanged"),
        (made(np.zeros(20), np.zeros(20)), "does not tell"),
        (made(np.full(20, 1e300), np.full(20, 1e300)), "does not tell"),
        (made(np.r_[np.zeros(19), np.nan], np.ones(20)), "a logit is not finite"),
        (made(np.zeros(20), np.r_[np.ones(19), np.inf]), "a logit is not finite"),
        (made(np.zeros(9), np.ones(30)), "there are 9 benign patients or lesions, and a calibration needs 10"),
        (made(np.zeros(30), np.ones(0)), "there are 0 malignant"),
    ],
)
def test_what_cannot_be_calibrated_is_one_sentence(manifest, cases, sentence):
    with pytest.raises(BusError, match=sentence):
        site_calibration.fit(manifest, cases)


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e-4])
def test_a_fit_at_a_bound_keeps_the_old_values(manifest, scale):
    cases = noisy(60, scale=scale)
    after, _, warnings = site_calibration.fit(manifest, cases)
    if scale > 1:
        assert (after.temperature, after.bias) == (manifest.temperature, manifest.bias)
        assert any("temperature and bias are kept (1 and 0)" in warning for warning in warnings)
    # Thresholds hold where probabilities are 0 and 1, or all alike.
    logits = after.bias + cases.logits / after.temperature
    for point in after.operating_points:
        target = calibration.POINTS[point.name]
        assert metrics.sensitivity(cases.y_true, logits >= point.logit) == pytest.approx(target, abs=0.02)


@pytest.mark.parametrize(("n", "names"), [(10, 1), (19, 1), (20, 2), (39, 2), (40, 3)])
def test_each_statement_says_how_many_cancers_it_takes(manifest, n, names):
    after, actual, warnings = site_calibration.fit(manifest, noisy(n))
    assert [point.name for point in after.operating_points] == list(calibration.POINTS)[:names]
    message = " ".join(warnings)
    assert ("takes 20 cancers" in message) == (n < 20)
    assert ("takes 40 cancers" in message) == (n < 40)
    assert ("is kept: to fit one takes 20 malignant" in message) == (n < 20)
    assert actual["warnings"] == warnings
    assert after.default_operating_point in [point.name for point in after.operating_points]


def test_a_reader_that_guesses_is_said_to(manifest):
    rng = np.random.default_rng(4)
    logits = rng.normal(size=80)
    order = np.argsort(logits)
    cases = made(logits[order][:80:2], logits[order][1:80:2])
    assert any("holds 0.5" in warning for warning in site_calibration.fit(manifest, cases)[2])


def test_exchanged_labels_end_with_2_and_write_nothing(hospital, tiny_ensemble, tmp_path, capsys, monkeypatch):
    folder, rows = hospital
    swapped = [row | {"label": "benign" if row["label"] == "malignant" else "malignant"} for row in rows]
    codes = []
    for number, given in enumerate((rows, swapped)):
        labels = table(tmp_path / f"{number}.csv", given)
        to = tmp_path / f"to{number}"
        codes.append(
            main(["calibrate", str(folder), "--labels", labels, "--to", str(to), "--ensemble", str(tiny_ensemble)])
        )
        assert to.exists() == (codes[-1] == 0)
    assert sorted(codes) == [0, 2]
    assert capsys.readouterr().err.count("are the labels exchanged?") == 1


def test_what_is_written_is_what_the_manifest_names_and_opens(offered_site, tmp_path):
    folder, second = offered_site
    before = read_manifest(folder)
    after, actual, _ = site_calibration.fit(before, noisy(30))
    site_calibration.write(folder, after, actual, tmp_path / "mine")
    written = sorted(path.relative_to(tmp_path / "mine").as_posix() for path in (tmp_path / "mine").rglob("*.*"))
    members = [f"{member.path}/{name}" for member in before.members for name in ("config.json", "model.safetensors")]
    also = [f"{before.lesion_map.member}/lesion_head.safetensors", "README.md", "calibration.json", "ensemble.json"]
    assert written == sorted([*members, *also, f"{second}/config.json", f"{second}/model.safetensors"])
    image, _ = phantom(np.random.default_rng(1), "benign")
    result = BreastCancerDetector.from_pretrained(tmp_path / "mine", device="cpu").predict(image, lesion_type=True)
    assert sum(result.lesion_type.values()) == pytest.approx(1)
    card = (tmp_path / "mine" / "README.md").read_text()
    page = about(str(tmp_path / "mine"))
    assert site.text(actual) in page
    assert "There are no metrics" not in page
    assert "60 images, 30 malignant, 60 groups" in card
    assert f"{actual['after']['operating_points']['miss_5_in_100']['sensitivity']['value']:.3f}" in card


def test_what_cannot_be_opened_is_not_written(offered_site, tmp_path, monkeypatch):
    folder, _ = offered_site
    after, actual, _ = site_calibration.fit(read_manifest(folder), noisy(30))
    old = tmp_path / "mine"
    site_calibration.write(folder, after, actual, old)
    kept = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    monkeypatch.setattr(site_calibration, "copy_parts", lambda *_: None)
    with pytest.raises(BusError, match="is missing"):
        site_calibration.write(folder, after, actual, old)
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == kept
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.fixture(scope="module")
def offered_site(make_ensemble, tmp_path_factory):
    """A folder with a lesion-type classifier and files that its manifest does not name; and the classifier's path."""
    import timm

    from bus_hf import labels, models

    folder = tmp_path_factory.mktemp("offered")
    classes = labels.label_set("histology")
    backbone = timm.create_model("test_resnet", num_classes=classes.num_logits).eval()
    models.save_member(folder / "deep" / "histology", backbone, classes, 64)
    home = folder / "deep" / "histology"
    member = Member(
        "histology",
        "deep/histology",
        None,
        None,
        sha256(home / "model.safetensors"),
        1.0,
        config_sha256=sha256(home / "config.json"),
    )
    make_ensemble(folder, lesion_type=LesionType("histology", classes.classes, member, 2.0))
    (folder / ".netrc").write_text("secret")
    (folder / "test_resnet" / ".hidden").write_text("secret")
    (folder / "test_resnet" / "notes.txt").write_text("patient 7")
    (folder / "test_resnet" / "link.txt").symlink_to("/etc/hostname")
    return folder, "deep/histology"


@pytest.mark.parametrize("n", [15, 60])
def test_real_logits_that_lie_too_high_are_set_right(n):
    """The shipped ensemble on some of its held-out images, its networks three logits too sure of cancer."""
    manifest = read_manifest(SHIPPED)
    member_weights = {member.name: member.weight for member in manifest.members}
    images = combine.combine(pd.read_parquet(SHIPPED / "out_of_fold.parquet"), member_weights, manifest.views)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.choice(np.flatnonzero(images["label"] == value), n, False) for value in (1, 0)])
    part = images.iloc[rows]
    cases = site_calibration.SiteCases(
        part["logit_0"].to_numpy() + 3, part["label"].to_numpy(), part["group"].to_numpy(), np.full(2 * n, "site")
    )
    after, actual, _ = site_calibration.fit(manifest, cases)
    assert 0.5 < after.temperature / manifest.temperature < 2
    assert abs(after.bias - (manifest.bias - 3 / after.temperature)) < 1.5
    assert actual["after"]["ece"]["value"] < 0.6 * actual["before"]["ece"]["value"]
    assert actual["after"]["brier"]["value"] < actual["before"]["brier"]["value"]
    for point in after.operating_points:
        assert 0.02 < point.threshold < 0.9
    # No cancer of middling probability is "benign and sure", whatever the threshold.
    logits = cases.logits / after.temperature + after.bias
    for logit in logits[(cases.y_true == 1) & (logits > 0)]:
        for point in after.operating_points:
            assert logit >= point.logit or after.abstain.unsure(logit, False)
