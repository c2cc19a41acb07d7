"""What people type: exit status, one sentence for each error, results that survive a stop."""

import csv
import json
import math
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from bus_hf.cli import COMMANDS, main
from bus_hf.config import TrainConfig, to_mapping
from bus_hf.data.phantoms import phantom, write_phantoms
from bus_hf.reporting import sentences
from bus_hf.views import VIEWS

ROOT = Path(__file__).resolve().parents[2]


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


# ---- help and wrong use


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; from bus_hf.cli import main; status = main(['--help']); "
        "print(status, *sorted({'numpy', 'cv2', 'torch', 'datasets', 'gradio', 'pandas'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "0"
    # Time of the processor: a busy machine must not fail it.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


BELOW = [f"{name} {below}" for name, module in COMMANDS.items() for below in getattr(module, "COMMANDS", {})]
GROUPS = sorted({command.split()[0] for command in BELOW})


@pytest.mark.parametrize("command", [*COMMANDS, *BELOW])
def test_every_command_teaches(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    assert f"  bus-hf {command}" in capsys.readouterr().out.partition("examples:")[2]


def test_help_shows_what_a_beginner_needs_first_and_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    first, _, rest = shown.partition("begin with:")[2].partition("then:")
    listed = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +\S", first, re.MULTILINE)
    assert listed == ["predict", "serve", "evaluate", "calibrate", "train"]
    assert all(f"    bus-hf {command} " in f"{first} " or f" bus-hf {command}\n" in first for command in listed)
    listed += re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +\S", rest, re.MULTILINE)
    assert set(listed) == {*COMMANDS, *BELOW} - {*GROUPS, "trial", "trials"}


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_names_its_commands(group, capsys):
    assert main([group]) == 2
    assert "WHAT" in capsys.readouterr().err
    assert main([group, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^ +{name} +\w", shown, re.MULTILINE) for name in COMMANDS[group].COMMANDS)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["predit", "a.png"], "the closest is bus-hf predict"),
        (["push-space"], "the closest is bus-hf push space"),
        (["push", "metrics", "--to", "x"], "the closest is bus-hf push metric"),
        (["nonsense"], "bus-hf --help lists them"),
        (["build", "house"], "bus-hf build --help lists them"),
    ],
)
def test_an_unknown_command_is_one_sentence_with_the_closest_one(words, remedy, capsys):
    assert main(words) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("bus-hf: there is no command '")
    assert remedy in told


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["predict"],
        ["predict", "a.png", "--roi", "1,2,3"],
        ["predict", "a.png", "--roi", "a,b,c,d"],
        ["views", "a.png", "--size", "5"],
        ["predict", "a.png", "--nonsense"],
    ],
)
def test_wrong_use_is_status_2(arguments, capsys):
    assert main(arguments) == 2
    assert "usage: bus-hf" in capsys.readouterr().err


def test_an_unknown_ensemble_is_one_sentence(scans, tmp_path, capsys):
    assert main(["predict", str(scans), "--ensemble", str(tmp_path / "none")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    mask, error = err.strip().splitlines()
    assert "a_mask.png" in mask
    assert "none" in error


def test_the_ensemble_is_that_of_the_page(monkeypatch, tmp_path, capsys, scans):
    monkeypatch.setenv("BUS_HF_ENSEMBLE", str(tmp_path / "named-by-the-environment"))
    assert main(["predict", str(scans)]) == 2
    assert "named-by-the-environment" in capsys.readouterr().err


# ---- predict


def test_predict_reads_a_folder_without_masks_and_hidden_files(predict, scans, capsys):
    assert predict(scans) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, name in zip(lines, ("a.png", "b.png", "deep/c.png"), strict=True):
        assert str(scans / name) in line
        assert "%" in line


def test_predict_prints_json_lines(predict, scans, capsys):
    assert predict(scans, "--json", "--operating-point", "balanced") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == [str(scans / name) for name in ("a.png", "b.png", "deep/c.png")]
    assert {row["operating_point"] for row in rows} == {"balanced"}
    for row in rows:
        assert (row["prediction"] == "Malignant") == (row["probability"] >= 0.5)
        assert set(row["views"]) == {"whole", "flip", "wider", "lesion", "around"}


def test_predict_says_one_of_the_pages_three_verdicts_and_what_was_measured(predict, scans, tmp_path, capsys):
    table = tmp_path / "table.csv"
    assert predict(scans, "--csv", table) == 0
    out, err = capsys.readouterr()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    verdicts = {sentences.UNSURE, sentences.SUSPICIOUS, sentences.CLEAR}
    for line, row in zip(out.splitlines(), rows, strict=True):
        assert row["verdict"] in verdicts
        assert line.startswith(row["verdict"])
        assert sentences.percent(float(row["probability"])) in line
    assert "suspicious from 30 % on" in err
    assert "catches 95 in 100 cancers and clears 70 in 100 others among the images it was measured on" in err


@pytest.mark.parametrize("logit", [-50.0, 50.0])
def test_predict_is_never_certain(predict, scans, monkeypatch, capsys, logit):
    from bus_hf.inference import detector

    chance = 1 / (1 + math.exp(-logit))
    monkeypatch.setattr(
        detector, "class_probabilities", lambda logits: np.broadcast_to([1 - chance, chance], (*logits.shape[:-1], 2))
    )
    assert predict(scans / "a.png") == 0
    out, err = capsys.readouterr()
    assert ("over 99 %" if logit > 0 else "under 1 %") in out
    assert not re.search(r"\b(0|100)(\.0+)? ?%", out + err)


def test_a_name_forges_neither_a_line_nor_a_formula(predict, scans, tmp_path, monkeypatch, capsys):
    shutil.copy(scans / "a.png", tmp_path / "=1+1\nMalignant  99 %.png")
    monkeypatch.chdir(tmp_path)
    assert predict("=1+1\nMalignant  99 %.png", "--csv", "table.csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    with open("table.csv", newline="") as file:
        assert next(csv.DictReader(file))["name"].startswith("'=1+1")


def test_predict_goes_on_after_a_bad_file(predict, scans, tmp_path, capsys):
    bad, table = tmp_path / "bad.png", tmp_path / "table.csv"
    bad.write_text("no image")
    assert predict(scans / "a.png", bad, tmp_path / "gone.png", scans / "b.png", "--json", "--csv", table) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in row for row in rows] == [False, True, True, False]
    assert str(bad) in rows[1]["error"]
    with table.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["name"] for row in written] == [row["name"] for row in rows]
    assert float(written[0]["probability"]) == rows[0]["probability"]
    assert [written[0][f"box_{side}"] for side in "xywh"] == (
        ["", "", "", ""] if rows[0]["box"] is None else [str(value) for value in rows[0]["box"]]
    )
    assert written[1]["error"] == rows[1]["error"]


def test_a_file_that_is_no_image_is_told_on_stderr_alone(predict, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    assert predict(bad) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert str(bad) in err
    assert "1 failed" in err
    assert "Traceback" not in err


def test_an_empty_folder_is_a_failed_input(predict, scans, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert predict(tmp_path / "empty", scans / "a.png") == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "holds no images" in err
    assert predict(tmp_path / "empty") == 1


def test_a_file_named_twice_is_read_once(predict, scans, capsys):
    assert predict(scans / "deep", scans / "deep" / "c.png", "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_given_box_replaces_the_found_one(predict, scans, capsys):
    assert predict(scans / "a.png", "--roi", "20,30,60,40", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert row["box"] == [20, 30, 60, 40]
    assert row["box_source"] == "given"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--roi", "5000,5000,10,10"], "inside"),
        (["--operating-point", "nonsense"], "miss_5_in_100"),
        (["--csv", "/nowhere/at/all.csv"], "all.csv"),
    ],
)
def test_wrong_use_of_predict_is_one_sentence(predict, scans, arguments, word, capsys):
    assert predict(scans / "a.png", *arguments) == 2
    err = capsys.readouterr().err.strip()
    assert word in err
    assert len(err.splitlines()) == 1


def test_a_box_is_for_one_image(predict, scans, capsys):
    assert predict(scans, "--roi", "1,2,30,40") == 2
    assert "exactly one" in capsys.readouterr().err


def test_the_light_member_votes_alone(predict, scans, capsys):
    assert predict(scans / "a.png", "--json", "--light") == 0
    assert list(json.loads(capsys.readouterr().out)["members"]) == ["test_efficientnet"]


def test_heat_maps_of_equal_names_do_not_overwrite_each_other(predict, scans, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(scans / "b.png", other / "a.png")
    heat = other / "heat"
    for _ in range(2):
        # The second call must not read the heat maps of the first.
        assert predict(scans / "a.png", other, "--heatmap", heat, "--json") == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [Path(row["heatmap"]).name for row in rows] == ["a_heatmap.png", "a_heatmap_2.png"]
    images = [cv2.imread(row["heatmap"]) for row in rows]
    assert [image.shape[:2] for image in images] == [tuple(row["shape"]) for row in rows]
    assert not np.array_equal(images[0], images[1])


class StoppedDetector:
    """Reads one image, then the user presses Ctrl-C."""

    def __init__(self, detector):
        self.manifest = detector.manifest
        self._detector = detector

    def predict_many(self, sources, **settings):
        yield self._detector.predict(sources[0])
        raise KeyboardInterrupt


def test_ctrl_c_keeps_what_was_read(tiny_ensemble, scans, tmp_path, monkeypatch, capsys):
    from bus_hf import BreastCancerDetector

    stopped = StoppedDetector(BreastCancerDetector.from_pretrained(tiny_ensemble))
    monkeypatch.setattr("bus_hf.cli.shared.open_detector", lambda given: stopped)
    table = tmp_path / "table.csv"
    assert main(["predict", str(scans), "--json", "--csv", str(table)]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] == str(scans / "a.png")
    assert err.strip().splitlines()[1:] == ["bus-hf: stopped; what was written so far is kept."]
    assert len(table.read_text().splitlines()) == 2


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes only on POSIX")
def test_a_file_name_that_is_no_text_is_printed(tiny_ensemble, scans, tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    shutil.copy(scans / "a.png", odd)
    command = [sys.executable, "-m", "bus_hf.cli", "predict", "--ensemble", str(tiny_ensemble), odd]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\udcff.png" in done.stdout


def test_a_reader_that_has_had_enough_is_no_error(scans, tiny_ensemble):
    command = [sys.executable, "-m", "bus_hf.cli", "predict", "--ensemble", str(tiny_ensemble), str(scans)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


# ---- audit


def test_audit_finds_the_copy_that_contradicts(labelled, tmp_path, capsys):
    sheet, table = tmp_path / "sheet.png", tmp_path / "pairs.csv"
    assert main(["audit", str(labelled), "--sheet", str(sheet), "--csv", str(table)]) == 0
    out = capsys.readouterr().out
    assert "13 images" in out
    contradicting = next(line for line in out.splitlines() if "contradict each other" in line)
    assert "malignant/copy" in contradicting
    with table.open(newline="") as file:
        pairs = list(csv.DictReader(file))
    assert next(row for row in pairs if row["classes_contradict"] == "True")["likeness"] == "1.0000"
    assert cv2.imread(str(sheet)) is not None


def test_audit_as_json_and_without_a_sheet(labelled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", str(labelled), "--json", "--no-sheet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 13
    assert sum(entry["images"] for entry in result["counts"]) == 13
    assert len(result["conflicting_groups"]) == 1
    assert len(result["identical"]) == 1
    assert list(tmp_path.iterdir()) == []


def test_audit_of_a_damaged_image_is_status_1(labelled, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(labelled, copy)
    (copy / "normal" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(["audit", str(copy), "--no-sheet"]) == 1
    assert "damaged.png" in capsys.readouterr().err


def test_audit_of_no_folder_is_one_sentence(tmp_path, capsys):
    assert main(["audit", str(tmp_path / "gone")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


# ---- views


def test_views_draws_transforms_and_views(labelled, tmp_path, capsys):
    image = next(path for path in sorted((labelled / "malignant").iterdir()) if "(" in path.stem)
    sheet = tmp_path / "new" / "sheet.png"
    assert main(["views", str(image), "-o", str(sheet), "--size", "64"]) == 0
    assert "from the mask" in capsys.readouterr().err
    drawn = cv2.imread(str(sheet))
    # Tiles of 64 px with their frames, four a row; two rows are the views.
    assert drawn.shape[1] == 4 * (64 + 8)
    assert drawn.shape[0] % (64 + 28) == 0
    assert drawn.shape[0] // (64 + 28) > 3
    # The lesion's box stands in colour in the first tile of the views, and its middle in the middle of `view: lesion`.
    first = drawn[-2 * (64 + 28) : -(64 + 28), : 64 + 8].astype(int)
    assert (first.max(2) - first.min(2)).max() > 100


def test_views_takes_the_given_box_and_says_when_there_is_none(scans, tmp_path, capsys):
    plain, boxed = tmp_path / "plain.png", tmp_path / "boxed.png"
    assert main(["views", str(scans / "b.png"), "-o", str(plain), "--size", "64"]) == 0
    assert "no lesion is known" in capsys.readouterr().err
    assert main(["views", str(scans / "b.png"), "-o", str(boxed), "--size", "64", "--roi", "10,10,30,30"]) == 0
    assert not np.array_equal(cv2.imread(str(plain)), cv2.imread(str(boxed)))
    assert main(["views", str(scans / "b.png"), "-o", str(boxed), "--roi", "9000,0,5,5"]) == 2
    assert "--roi" in capsys.readouterr().err


def test_views_refuses_a_mask_of_another_image(scans, tmp_path, capsys):
    mask = tmp_path / "mask.png"
    cv2.imwrite(str(mask), np.full((50, 60), 255, np.uint8))
    assert main(["views", str(scans / "b.png"), "--mask", str(mask)]) == 2
    assert "mask.png" in capsys.readouterr().err


# ---- evaluate, assemble, figures


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Labelled phantoms, enough of each class for figures, with one contradicting pair."""
    folder = tmp_path_factory.mktemp("collection") / "hospital-b"
    write_phantoms(folder, 12, seed=5)
    source = next(path for path in sorted((folder / "benign").iterdir()) if "_mask" not in path.stem)
    shutil.copy(source, folder / "malignant" / "copy.png")
    return folder


def test_evaluate_measures_what_predict_says(tiny_ensemble, collection, tmp_path, capsys):
    plots = tmp_path / "plots"
    flags = ["--ensemble", str(tiny_ensemble), "--json", "--plots", str(plots)]
    assert main(["evaluate", str(collection), *flags]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    # 36 phantoms; the copied one and its twin contradict each other.
    assert "2 images are excluded: 1 patients, lesions or sets of near-duplicates have both labels" in err
    assert (found["overall"]["n"], found["overall"]["n_malignant"]) == (35, 12)
    assert list(found["by_source"]) == ["hospital-b", "hospital-b without normals"]
    assert sorted(path.name for path in plots.iterdir()) == [
        "confusion_matrix.png",
        "decision_curve.png",
        "reliability.png",
        "roc_curve.png",
    ]
    paths = [path for path in sorted(collection.glob("*/*.png")) if "_mask" not in path.stem and path.stem != "copy"]
    twin = sorted(path for path in (collection / "benign").iterdir() if "_mask" not in path.stem)[0]
    assert main(["predict", *map(str, paths), *flags[:3]]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kept = [row for row in rows if row["name"] != str(twin)]
    labels = np.array([Path(row["name"]).parent.name == "malignant" for row in kept])
    chances = np.array([row["probability"] for row in kept])
    assert len(kept) == 35
    assert found["overall"]["brier"]["value"] == pytest.approx(float(np.mean((chances - labels) ** 2)), abs=1e-5)
    point = found["operating_points"][0]
    called = chances >= point["threshold"]
    assert point["sensitivity"]["value"] == pytest.approx(called[labels].mean(), abs=1e-5)
    assert point["specificity"]["value"] == pytest.approx(1 - called[~labels].mean(), abs=1e-5)


def test_evaluate_prints_tables_and_tells_of_unreadable_images(tiny_ensemble, collection, tmp_path, capsys):
    copy = tmp_path / "hospital-c"
    shutil.copytree(collection, copy)
    cv2.imwrite(str(copy / "normal" / "black.png"), np.zeros((64, 64), np.uint8))
    assert main(["evaluate", str(copy), "--ensemble", str(tiny_ensemble), "--keep-conflicts"]) == 1
    out, err = capsys.readouterr()
    assert "| hospital-c |" in out
    assert "| miss_5_in_100 | 0.300 |" in out
    assert "black.png" in err
    assert "contradicting" not in err


@pytest.mark.parametrize("arguments", [[], ["DATA", "--oof", "x.parquet"], ["--oof", "gone.parquet"]])
def test_wrong_use_of_evaluate_is_one_sentence(arguments, capsys):
    assert main(["evaluate", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


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


@pytest.fixture(scope="module")
def assembled(tiny_ensemble, tmp_path_factory):
    """An ensemble folder that the command made of a run."""
    folder = tmp_path_factory.mktemp("assembled")
    run = finished_run(folder / "run", tiny_ensemble, "test_efficientnet")
    assert (
        main(["build", "ensemble", str(run), "--to", str(folder / "ensemble"), "--name", "mine", "--version", "2.0.0"])
        == 0
    )
    return folder / "ensemble"


def test_assemble_makes_an_ensemble_that_predict_reads(assembled, scans, capsys):
    assert main(["predict", str(scans / "a.png"), "--ensemble", str(assembled), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["members"]) == ["test_efficientnet"]
    manifest = json.loads((assembled / "ensemble.json").read_text())
    assert (manifest["name"], manifest["version"]) == ("mine", "2.0.0")


def test_evaluate_of_stored_logits_gives_the_figures_of_the_report(assembled, capsys):
    assert main(["evaluate", "--oof", str(assembled), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    stored = json.loads((assembled / "report.json").read_text())
    assert found["overall"]["auroc"] == stored["overall"]["auroc"]
    assert found["overall"]["n"] == 80
    assert main(["evaluate", "--oof", str(assembled / "out_of_fold.parquet")]) == 0
    assert "| busbra |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "lacking",
    [
        ("mask_x", "mask_y", "mask_w", "mask_h"),
        ("box_x", "box_y", "box_w", "box_h"),
        ("pointing_hit",),
        ("height", "width", "birads", "device", "histology"),
        ("source", "pathology"),
        (),
    ],
)
def test_evaluate_of_logits_alone_gives_what_they_say(assembled, tmp_path, capsys, lacking):
    frame = pd.read_parquet(assembled / "out_of_fold.parquet")
    keep = ["name", "group", "label", "member", "view", "logit_0"]
    (frame.drop(columns=list(lacking)) if lacking else frame[keep]).to_parquet(tmp_path / "logits.parquet")
    arguments = ["evaluate", "--oof", str(tmp_path / "logits.parquet"), "--ensemble", str(assembled)]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    stored = json.loads((assembled / "report.json").read_text())
    assert found["overall"] == {key: value for key, value in stored["overall"].items() if key in found["overall"]}
    if set(lacking) & {"mask_w", "box_w", "pointing_hit"} or not lacking:
        assert all("all" not in row for rows in found["heat_maps"].values() for row in rows.values())
    assert set(found["by_source"]) == ({"unknown"} if "source" in lacking or not lacking else set(stored["by_source"]))
    assert main(arguments) == 0


def test_evaluate_of_another_ensembles_logits_is_one_sentence(tiny_ensemble, assembled, capsys):
    # The ensemble has a second member, of which there are no logits.
    assert main(["evaluate", "--oof", str(assembled), "--ensemble", str(tiny_ensemble)]) == 2
    assert "members and views" in capsys.readouterr().err


def test_figures_writes_the_tables_between_the_markers(assembled, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- figures:start -->\nthe old tables\n<!-- figures:end -->\nafter\n")
    before = (assembled / "report.json").read_text()
    assert main(["build", "figures", str(assembled), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- figures:start -->\n| images |")
    assert text.endswith("<!-- figures:end -->\nafter\n")
    assert "the old tables" not in text
    (linked,) = re.findall(r"\]\((.*roc_curve\.png)\)", text)
    assert not Path(linked).is_absolute()
    assert (readme.parent / linked).resolve() == (assembled / "plots" / "roc_curve.png").resolve()
    assert (assembled / "report.json").read_text() == before
    readme.write_text("no markers")
    assert main(["build", "figures", str(assembled), "--readme", str(readme)]) == 2
    assert "figures:start" in capsys.readouterr().err


def test_assemble_of_an_unfinished_run_is_one_sentence(tmp_path, capsys):
    assert main(["build", "ensemble", str(tmp_path), "--to", str(tmp_path / "ensemble")]) == 2
    err = capsys.readouterr().err.strip()
    assert "run.json" in err
    assert len(err.splitlines()) == 1
    assert main(["build", "ensemble", str(tmp_path), "--to", "x", "--weight", "resnet50"]) == 2


def test_audit_fills_the_card_of_a_data_set(labelled, tmp_path):
    card = tmp_path / "README.md"
    shutil.copy(ROOT / "dataset_card" / "README.md", card)
    assert main(["audit", str(labelled), "--no-sheet", "--card", str(card)]) == 0
    assert "| phantoms | 4 | 5 | 4 |" in card.read_text()


# ---- serve


def test_serve_answers_until_ctrl_c(tiny_ensemble):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bus_hf.cli", "serve", "--port", str(port), "--ensemble", str(tiny_ensemble)]

    def listen() -> None:
        # Tests that run in the background ignore Ctrl-C, and what they start would inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=listen) as process:
        try:
            for line in process.stderr:
                if "serving on" in line:
                    break
            assert str(port) in line
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                assert b"Breast ultrasound classifier" in answer.read()
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert process.wait(30) == 130
            assert "closed" in rest
            assert "Traceback" not in rest
        finally:
            process.kill()


def test_a_port_that_is_taken_is_one_sentence(monkeypatch, capsys):
    def launch(*args, **kwargs):
        raise OSError("Cannot find empty port")

    monkeypatch.setattr("bus_hf.space.page.launch", launch)
    assert main(["serve", "--port", "7999"]) == 2
    assert "--port" in capsys.readouterr().err
    assert main(["serve", "--port", "0"]) == 2
