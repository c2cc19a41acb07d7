"""Nothing leaves a folder but regular files that are named: for each push, what links, pipes and strangers do."""

import json
import os
import shutil
from pathlib import Path

import pytest

from bus_hf.cli import main
from bus_hf.data.phantoms import write_phantoms
from bus_hf.errors import BusError
from bus_hf.hub import upload, upload_dataset, upload_metric, upload_run, upload_space
from bus_hf.hub.outgoing import outgoing

ROOT = Path(__file__).resolve().parents[2]
SECRET = b"of somebody's home"


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "home" / "secret"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def sent(monkeypatch):
    """The uploads that would have been sent, by repository."""
    uploads = {}

    def keep(plan, private, revision, **settings):
        uploads[plan.repo_id] = {
            name: file if isinstance(file, bytes) else file.read_bytes() for name, file in plan.files.items()
        }
        return upload.Pushed(plan.repo_id, "0" * 40, True)

    for module in (upload, upload_dataset, upload_space):
        monkeypatch.setattr(module, "send", keep)
    return uploads


@pytest.fixture
def ensemble(described, tmp_path):
    folder = tmp_path / "ensemble"
    shutil.copytree(described, folder)
    return folder


@pytest.fixture
def clone(tmp_path):
    """What pushes read of a clone of the project."""
    folder = tmp_path / "clone"
    for name in ("bus_hf", "metrics", "dataset_card"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("app.py", "requirements.txt", "LICENSE", "CITATION.cff", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


def linked(path, secret):
    path.unlink()
    path.symlink_to(secret)


def hard_linked(path, secret):
    path.unlink()
    os.link(secret, path)


def piped(path, secret):
    path.unlink()
    os.mkfifo(path)


def behind_a_linked_folder(path, secret):
    away = secret.parent / "away"
    shutil.move(path.parent, away)
    path.parent.symlink_to(away)


TRICKS = (linked, hard_linked, piped)
REFUSED = r"(link|pipe, socket or device).*which does not leave the folder"


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "ensemble.json",
        "report.json",
        "training.json",
        "plots/roc_curve.png",
        "test_resnet/README.md",
        "test_resnet/config.json",
        "test_resnet/model.safetensors",
        "test_efficientnet/graph.onnx",
        "test_efficientnet/lesion_head.safetensors",
        "test_efficientnet/plots/roc_curve.png",
    ],
)
def test_an_ensemble_sends_no_links_or_pipes(ensemble, secret, sent, capsys, trick, name):
    trick(ensemble / name, secret)
    for flags in ([], ["--dry-run"]):
        assert main(["push", "ensemble", str(ensemble), "--to", "org/tiny", *flags]) == 2
        text = capsys.readouterr().err
        assert "which does not leave the folder" in text
        assert str(ensemble / name) in text
    assert not sent


@pytest.mark.parametrize("name", ["plots/roc_curve.png", "test_efficientnet/plots/roc_curve.png"])
def test_an_ensemble_sends_nothing_behind_a_linked_folder(ensemble, secret, sent, name):
    behind_a_linked_folder(ensemble / name, secret)
    with pytest.raises(BusError, match=REFUSED):
        upload.push(ensemble, "org/tiny")
    assert not sent


def test_an_ensemble_whose_folder_is_a_link_itself_is_sent(ensemble, tmp_path, sent):
    (tmp_path / "current").symlink_to(ensemble)
    upload.push(tmp_path / "current", "org/tiny")
    assert set(sent) == {"org/tiny-test_efficientnet", "org/tiny-test_resnet", "org/tiny"}


def test_strangers_and_hidden_files_stay(ensemble, secret, sent):
    for home in (ensemble, ensemble / "test_resnet", ensemble / "plots", ensemble / "test_efficientnet" / "plots"):
        home.mkdir(exist_ok=True)
        for name in ("patient.png", ".env", "scan 12.png", "other.safetensors", "confusion_matrix_patient.png"):
            (home / name).write_bytes(SECRET)
        os.mkfifo(home / "pipe.png")
        (home / "link.png").symlink_to(secret)
    (ensemble / "test_resnet" / "plots").mkdir()
    (ensemble / "test_resnet" / "plots" / "patient.png").write_bytes(SECRET)
    upload.push(ensemble, "org/tiny")
    every = [(name, content) for files in sent.values() for name, content in files.items()]
    assert len(every) > 10
    assert not [name for name, content in every if SECRET in content or Path(name).name.startswith(".")]


def test_a_manifest_names_no_hidden_and_no_outer_file(ensemble, secret):
    text = json.loads((ensemble / "ensemble.json").read_text())
    for file in (".head.safetensors", "../../home/x.safetensors", "/etc/x.safetensors"):
        text["lesion_map"]["file"] = file
        (ensemble / "ensemble.json").write_text(json.dumps(text))
        with pytest.raises(BusError, match=r"hidden|inside the folder"):
            upload.plan(ensemble, "org/tiny")


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize(
    "name", ["README.md", "config.json", "model.safetensors", "graph.onnx", "lesion_head.safetensors"]
)
def test_a_member_sends_no_links_or_pipes(ensemble, secret, sent, trick, name):
    member = ensemble / "test_efficientnet"
    (member / "plots" / "patient.png").write_bytes(SECRET)
    (member / "other.safetensors").write_bytes(SECRET)
    upload.push_member(member, "org/one")
    assert set(sent["org/one"]) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "graph.onnx",
        "lesion_head.safetensors",
        "plots/roc_curve.png",
    }
    sent.clear()
    trick(member / name, secret)
    with pytest.raises(BusError, match=REFUSED):
        upload.push_member(member, "org/one")
    assert not sent


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("name", [*upload_run.FILES])
def test_a_run_sends_no_links_or_pipes(tmp_path, secret, sent, trick, name):
    run = tmp_path / "run"
    (run / "checkpoint").mkdir(parents=True)
    for file in upload_run.FILES:
        (run / file).write_text("{}")
    trick(run / name, secret)
    with pytest.raises(BusError, match=REFUSED):
        upload_run.push_run(run, "org/one")
    assert not sent


def test_a_run_is_read_without_what_a_push_does_not_need(tmp_path, secret):
    run = tmp_path / "run"
    (run / "checkpoint").mkdir(parents=True)
    for file in upload_run.FILES:
        (run / file).write_text("{}")
    (run / "checkpoint" / ".env").write_bytes(SECRET)
    (run / "checkpoint" / "notes.txt").symlink_to(secret)
    os.mkfifo(run / "checkpoint" / "pipe")
    copied = upload_run._copied(run, tmp_path / "copy")
    result = {path.relative_to(copied).as_posix() for path in copied.rglob("*") if path.is_file()}
    assert result == set(upload_run.FILES)
    with pytest.raises(BusError, match="the run is not finished"):
        upload_run.push_run(tmp_path / "nowhere", "org/one")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "busi"
    write_phantoms(folder, 6, 0)
    return folder


def linked_folder(path, secret):
    behind_a_linked_folder(path, secret)


@pytest.mark.parametrize("trick", [linked, piped, linked_folder])
@pytest.mark.parametrize("name", ["benign/benign (1).png", "malignant/malignant (2)_mask.png"])
def test_a_data_set_sends_no_links_or_pipes(images, secret, sent, capsys, trick, name):
    trick(images / name, secret)
    assert main(["push", "dataset", str(images), "--to", "org/data", "--may-redistribute"]) == 2
    assert "which does not leave the folder" in capsys.readouterr().err
    assert not sent


def test_a_table_that_names_files_by_path_is_not_sent(images, tmp_path, sent):
    import pandas as pd

    table = pd.DataFrame(
        {
            "image": [{"bytes": None, "path": str(path)} for path in sorted((images / "benign").glob("*).png"))],
            "pathology": "benign",
            "name": [f"t/{n}" for n in range(6)],
        }
    )
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "pathology": datasets.Value("string"), "name": datasets.Value("string")}
    )
    (tmp_path / "table").mkdir()
    datasets.Dataset.from_pandas(table, features=features).to_parquet(tmp_path / "table" / "train.parquet")
    with pytest.raises(BusError, match="does not hold the image of row 0, but a path"):
        upload_dataset.prepare(tmp_path / "table")


def test_the_card_of_a_data_set_is_no_link(images, clone, secret, tmp_path):
    linked(clone / "dataset_card" / "README.md", secret)
    with pytest.raises(BusError, match=REFUSED):
        upload_dataset.plan([images], "org/data", tmp_path, may_redistribute=True, home=clone)


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("name", ["app.py", "requirements.txt", "LICENSE", "README.md", "bus_hf/space/style.css"])
def test_a_space_sends_no_links_or_pipes(clone, secret, pinned, trick, name):
    (clone / "app.py").write_text((clone / "app.py").read_text())
    trick(clone / name, secret)
    with pytest.raises(BusError, match=f"{REFUSED}|is not here"):
        upload_space.plan("org/page", "org/tiny", home=clone)


def test_a_space_sends_what_its_code_names_alone(clone, secret, pinned):
    before = set(upload_space.plan("org/page", "org/tiny", home=clone).files)
    for name in ("notes.md", ".hidden.css", "patient.js"):
        (clone / "bus_hf" / "space" / name).write_bytes(SECRET)
    (clone / "bus_hf" / "evaluation" / "link.md").symlink_to(secret)
    assert set(upload_space.plan("org/page", "org/tiny", home=clone).files) == before
    assert {"bus_hf/space/style.css", "bus_hf/space/draw.js", "bus_hf/reporting/card.md"} <= before


def test_the_metric_sends_its_three_files(clone, secret):
    folder = clone / "metrics" / "bus_screening"
    for name in ("patient.png", ".env.txt", "notes.md"):
        (folder / name).write_bytes(SECRET)
    files = upload_metric.plan("org/bus_screening", clone).files
    assert set(files) == {"bus_screening.py", "README.md", "requirements.txt"}
    for trick in TRICKS:
        shutil.copy(ROOT / "metrics" / "bus_screening" / "README.md", folder / "kept")
        trick(folder / "README.md", secret)
        with pytest.raises(BusError, match=REFUSED):
            upload_metric.plan("org/bus_screening", clone)
        (folder / "README.md").unlink()
        (folder / "kept").rename(folder / "README.md")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/../../x", ".env", "a/.git/config", "/etc/passwd"])
def test_odd_names_are_refused(tmp_path, name):
    with pytest.raises(BusError, match="hidden or lies outside"):
        outgoing(tmp_path, [name])


def test_what_becomes_a_link_after_the_plan_is_not_sent(tmp_path, secret):
    (tmp_path / "README.md").write_text("x")
    plan = upload.Upload("org/one", "member", {"README.md": tmp_path / "README.md"})
    linked(tmp_path / "README.md", secret)
    with pytest.raises(BusError, match="no regular file any more"):
        upload.send(plan, False, None)
