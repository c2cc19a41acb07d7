"""A site's own thresholds: from a table of labelled images to an ensemble folder that reads."""

import csv
import json

import cv2
import numpy as np
import pytest

from bus_hf import BreastCancerDetector, ensemble, site_calibration
from bus_hf.cli import main
from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError
from bus_hf.evaluation import calibration, figures


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """24 phantoms with a table of labels and patients."""
    folder = tmp_path_factory.mktemp("site")
    rows = []
    for index in range(24):
        kind = "malignant" if index % 2 else "benign"
        image, _ = phantom(np.random.default_rng(index), kind)
        cv2.imwrite(str(folder / f"scan{index}.png"), image)
        rows.append({"name": f"scan{index}.png", "label": kind, "patient": f"p{index}"})
    return folder, rows


def table(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_a_site_gets_an_ensemble_that_reads(site, tiny_ensemble, tmp_path, capsys):
    folder, rows = site
    labels = table(tmp_path / "labels.csv", rows)
    command = ["calibrate", str(folder), "--labels", labels, "--to", str(tmp_path / "mine"), "--ensemble"]
    assert main([*command, str(tiny_ensemble), "--json"]) == 0
    out = capsys.readouterr()
    found = json.loads(out.out)
    assert (found["n"], found["n_malignant"], found["n_groups"]) == (24, 12, 24)
    assert "only 12 malignant" in out.err
    assert "miss_25_in_1000 is left out" in out.err
    manifest, before = ensemble.read(tmp_path / "mine"), ensemble.read(tiny_ensemble)
    ensemble.verify(tmp_path / "mine", manifest)
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
        (lambda rows: [row | {"patient": "same"} for row in rows], "no image is left"),
    ],
)
def test_bad_tables_are_one_sentence(site, tiny_ensemble, tmp_path, capsys, change, sentence):
    folder, rows = site
    labels = table(tmp_path / "labels.csv", change(rows))
    command = ["calibrate", str(folder), "--labels", labels, "--to", str(tmp_path / "to"), "--ensemble"]
    assert main([*command, str(tiny_ensemble)]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00name", b"name,label\n"])
def test_a_table_that_is_none(site, tiny_ensemble, tmp_path, capsys, content):
    (tmp_path / "labels.csv").write_bytes(content)
    command = ["calibrate", str(site[0]), "--labels", str(tmp_path / "labels.csv"), "--to", str(tmp_path / "to")]
    assert main([*command, "--ensemble", str(tiny_ensemble)]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def site_cases(n=300, slope=0.3):
    """A site where the ensemble is far over-confident."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    honest = 2 * (2 * labels - 1) + 2 * rng.normal(size=n)
    return site_calibration.SiteCases(honest / slope, labels, np.arange(n) // 2, np.full(n, "site"))


def test_the_fit_mends_what_is_wrong(tiny_ensemble):
    manifest, cases = ensemble.read(tiny_ensemble), site_cases()
    after, found, warnings = site_calibration.fit(manifest, cases)
    assert warnings == []
    kept = calibration.Scale(manifest.temperature, manifest.bias)
    assert (after.temperature, after.bias) == calibration.fit_scale(cases.logits, cases.labels, kept)
    assert found["after"]["brier"]["value"] < found["before"]["brier"]["value"]
    for point in after.operating_points:
        logits = cases.logits / after.temperature + after.bias
        target = calibration.POINTS[point.name]
        assert figures.sensitivity(cases.labels, logits >= point.logit) >= target - 1e-9
        assert point.sensitivity[0] == pytest.approx(target, abs=0.04)
    assert after.default_operating_point == manifest.default_operating_point


def test_too_few_of_a_class_are_refused(tiny_ensemble):
    cases = site_cases(16)
    with pytest.raises(BusError, match="a calibration needs 10"):
        site_calibration.fit(ensemble.read(tiny_ensemble), cases)
