"""What lies beside an ensemble may be partial or hostile: the page tells what can be told, in harmless signs."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest

from bus_hf.reporting import sanitize
from bus_hf.space.about import about, pictures

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"
FILES = ("report.json", "training.json", "lesion_type/report.json")
EVIL = "<img src=x onerror=alert(1)>![a](http://evil.example/x.png)|`\n# [b](javascript:alert(1)) www.evil.example"


@pytest.fixture
def beside(tmp_path):
    """The files beside the shipped ensemble, to be spoiled."""
    for name in (*FILES, "plots/roc_curve.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(SHIPPED / name, tmp_path / name)
    return tmp_path


def harmless(text):
    return not re.search(r"<(?!/?(p|div)\b)|\]\(|!\[|javascript:|https?:|www\.", text)


def test_the_whole_is_told(beside):
    text = about(str(beside))
    for heading in (
        "What it was trained on",
        "What was measured",
        "Operating points",
        "Weights",
        "Lesion-type classifier",
    ):
        assert f"# {heading}" in text
    assert harmless(text)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"7", b"null", b'"x"', b"\xff\xfe", b"{", b"[" * 100_000, b" " * (5 << 20)]
)
@pytest.mark.parametrize("name", [*FILES, "calibration.json"])
def test_what_is_no_report_stops_nothing(beside, name, content):
    (beside / name).write_bytes(content)
    assert "## What this is" in about(str(beside))


@pytest.mark.parametrize("name", FILES)
def test_a_partial_report_stops_nothing(beside, name):
    whole = json.loads((beside / name).read_text())
    # The others take time and show nothing here.
    for other in FILES:
        (beside / other).unlink()
    for key in whole if isinstance(whole, dict) else ():
        for value in (..., None, [], "x", -1e308, {"value": None}):
            part = {other: entry for other, entry in whole.items() if other != key}
            (beside / name).write_text(json.dumps(part if value is ... else part | {key: value}))
            assert "## What this is" in about(str(beside))


def test_what_is_left_of_a_partial_report_is_told(beside):
    report = json.loads((beside / "report.json").read_text())
    del report["models"], report["disagreement"]
    (beside / "report.json").write_text(json.dumps(report))
    text = about(str(beside))
    assert "### Operating points" in text
    assert f"{report['overall']['auroc']['value']:.3f}" in text


def poisoned(value, rng):
    """The same JSON with hostile texts in many places, keys too."""
    if isinstance(value, dict):
        return {key + EVIL if rng.random() < 0.05 else key: poisoned(entry, rng) for key, entry in value.items()}
    if isinstance(value, list):
        return [poisoned(entry, rng) for entry in value]
    return value + EVIL if isinstance(value, str) else EVIL if rng.random() < 0.02 else value


@pytest.mark.parametrize("seed", range(12))
def test_nothing_hostile_reaches_the_page(beside, seed):
    rng = random.Random(seed)
    for name in FILES:
        (beside / name).write_text(json.dumps(poisoned(json.loads((beside / name).read_text()), rng)))
    (beside / "calibration.json").write_text(json.dumps({"n": EVIL}))
    assert harmless(about(str(beside)))


@pytest.mark.parametrize("key", ["sources", "start", "architecture"])
def test_hostile_texts_of_a_record_are_told_harmlessly(beside, key):
    trained = json.loads((beside / "training.json").read_text())
    for record in trained.values():
        record["sources"] = {EVIL: 3}
        record["start"]["source"] = EVIL
    (beside / "training.json").write_text(json.dumps(trained))
    text = about(str(beside))
    assert "3 of  img src=x onerror=alert(1) " in text
    assert not re.search(r"<img|!\[|\]\(|javascript:|http:|www\.", text)


def test_pictures_are_pictures(beside):
    assert 'src="data:image/png;base64,' in pictures(str(beside))
    for content in (b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n" + b"0" * (3 << 20)):
        (beside / "plots" / "roc_curve.png").write_bytes(content)
        assert pictures(str(beside)) == ""


def test_plain_keeps_what_is_plain():
    same = {"miss_5_in_100": [0.5, None, True, 'a "b" – 5 % (c), ≥ 1'], "Łódź": 3}
    assert sanitize.plain(same) == same
    assert sanitize.plain({"a": float("nan"), "b": (1, float("inf"))}) == {"a": None, "b": [1, None]}
    assert sanitize.plain("Logiq 5 @10-12MHz, a@b.example") == "Logiq 5 @10-12MHz, a b.example"
    assert len(sanitize.plain("x" * 10_000)) == 300


def test_about_of_the_shipped_ensemble_holds_its_figures():
    text = about(str(Path(__file__).parents[2] / "checkpoints"))
    assert "The light choice, `tf_efficientnet_lite0` alone, at the calibration and the thresholds that ship" in text
    assert "were trained without that source" in text
    assert "| busbra |" in text
    assert "miss at most 5 in 100 cancers" in text
    assert "What it was trained on" in text
    report = json.loads((SHIPPED / "report.json").read_text())
    assert f"Of {report['overall']['n_malignant']} malignant images" in text


def test_plots_of_the_shipped_ensemble_lie_inside_the_page(tmp_path):
    shown = pictures(str(Path(__file__).parents[2] / "checkpoints"))
    assert shown.count('src="data:image/png;base64,iVBOR') == 4
    assert "fitted on these images" in shown
    assert pictures(str(tmp_path)) == ""
