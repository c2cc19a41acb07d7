"""A push by the real client: what is sent, what the manifest pins, what a second, a broken and a refused push do."""

import json
import re
import shutil

import pytest

from bus_hf.cli import main
from bus_hf.ensemble.folder import sha256
from tests.hub.loopback import Fault, Repo

MEMBERS = ("org/tiny-test_efficientnet", "org/tiny-test_resnet")


@pytest.fixture
def push(client, described):
    """Return a function that pushes the described ensemble to org/tiny."""

    def run(*arguments, folder=described, **settings):
        return client("-m", "bus_hf.cli", "push", "ensemble", folder, "--to", "org/tiny", *arguments, **settings)

    return run


def pinned(hub, branch="main"):
    return json.loads(hub.model("org/tiny").at(branch).files["ensemble.json"][0])


def test_members_are_pinned_to_their_commits_and_nothing_else_is_sent(hub, push, described, tmp_path):
    assert push().returncode == 0
    manifest = pinned(hub)
    for member, name in zip(manifest["members"], MEMBERS, strict=True):
        assert member["path"] is None
        assert (member["repo_id"], member["revision"]) == (name, hub.model(name).head.oid)
        held = hub.model(name).head.files
        assert {"README.md", "config.json", "model.safetensors"} <= set(held)
        assert held["model.safetensors"][1], "weights are no LFS file"
        (tmp_path / "weights").write_bytes(held["model.safetensors"][0])
        assert sha256(tmp_path / "weights") == member["sha256"]
    assert {"graph.onnx", "lesion_head.safetensors", "plots/roc_curve.png"} <= set(hub.model(MEMBERS[0]).head.files)
    sent = set(hub.model("org/tiny").head.files) - {".gitattributes"}
    plots = {"plots/roc_curve.png", "plots/confusion_matrix_balanced.png"}
    assert sent == {"README.md", "report.json", "training.json", "ensemble.json"} | plots
    assert {name for _, name in hub.repos} == {"org/tiny", *MEMBERS}
    assert len(hub.model("org/tiny").commits) == 2, "one commit after the Hub's first"
    local = json.loads((described / "ensemble.json").read_text())
    assert [member["path"] for member in local["members"]] == ["test_efficientnet", "test_resnet"]


def test_the_same_content_makes_no_commit(hub, push):
    first = push("--json")
    assert [one["changed"] for one in json.loads(first.stdout)] == [True, True, True]
    before = {key: repo.head.oid for key, repo in hub.repos.items()}
    second = push("--json")
    assert [one["changed"] for one in json.loads(second.stdout)] == [False, False, False]
    assert {key: repo.head.oid for key, repo in hub.repos.items()} == before
    assert [one["commit"] for one in json.loads(second.stdout)] == [one["commit"] for one in json.loads(first.stdout)]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(r"POST /api/repos/create", times=9, status=403),
        Fault(r"POST .*resnet.*/preupload/", times=9, status=403),
        Fault(r"PUT /lfs/", times=99, after=1000),
        Fault(r"POST /lfs/verify", times=99, status=400),
        Fault(r"POST .*resnet/commit/", times=99, after=10),
        Fault(r"POST /api/models/org/tiny/preupload/", times=99, status=403),
        Fault(r"POST /api/models/org/tiny/commit/", times=99, status=403),
    ],
    ids=lambda fault: fault.pattern,
)
def test_a_push_that_breaks_leaves_no_manifest_and_is_finished_by_the_same_command(hub, push, fault):
    hub.faults = [fault]
    broken = push()
    assert broken.returncode == 2
    assert "Traceback" not in broken.stderr
    assert re.search(r"^bus-hf: org/tiny[^:]*: .*; .*\.$", broken.stderr, re.MULTILINE), broken.stderr
    assert ("model", "org/tiny") not in hub.repos or "ensemble.json" not in hub.model("org/tiny").head.files
    hub.faults = []
    assert push().returncode == 0
    manifest = pinned(hub)
    assert [hub.model(member["repo_id"]).head.oid for member in manifest["members"]] == [
        member["revision"] for member in manifest["members"]
    ]


def test_what_broke_off_after_the_weights_does_not_send_them_again(hub, push):
    hub.faults = [Fault(r"POST .*/commit/", times=99, status=403)]
    assert push().returncode == 2
    hub.calls.clear()
    hub.faults = []
    assert push().returncode == 0
    sent = [call for call in hub.calls if call.startswith("PUT")]
    assert len(sent) == 1, "the other member's weights alone (the first one's, and its lesion head, are there)"


def test_the_client_tries_again_when_the_hub_is_busy(hub, push):
    hub.faults = [Fault(r"POST .*/preupload/", times=1, status=503), Fault(r"PUT /lfs/", times=1, status=503)]
    assert push().returncode == 0
    assert len(pinned(hub)["members"]) == 2


def test_new_weights_move_the_pin_and_an_old_commit_still_holds_the_old_manifest(hub, push, described, tmp_path):
    assert push().returncode == 0
    old = pinned(hub)
    folder = tmp_path / "changed"
    shutil.copytree(described, folder)
    (folder / "test_resnet" / "README.md").write_text("---\nlicense: mit\n---\n\n# Another card\n")
    assert push(folder=folder).returncode == 0
    new = pinned(hub)
    assert old["members"][0]["revision"] == new["members"][0]["revision"]
    assert old["members"][1]["revision"] != new["members"][1]["revision"]
    assert json.loads(hub.model("org/tiny").commits[1].files["ensemble.json"][0]) == old


def test_private_and_a_branch(hub, push):
    assert push("--private", "--revision", "candidate").returncode == 0
    assert all(repo.private for repo in hub.repos.values())
    assert "ensemble.json" not in hub.model("org/tiny").head.files
    assert pinned(hub, "candidate")["members"][0]["revision"] == hub.model(MEMBERS[0]).at("candidate").oid
    assert push("--revision", "candidate").returncode == 0


def test_without_a_token_and_with_a_wrong_one(push):
    for token in (None, "hf_wrong"):
        refused = push(HF_TOKEN=token)
        assert refused.returncode == 2
        assert "the Hub does not know you" in refused.stderr
        assert "hf auth login" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_hub_out_of_reach(push):
    refused = push(HF_ENDPOINT="http://127.0.0.1:9")
    assert refused.returncode == 2
    assert "connection to the Hub" in refused.stderr


def test_dry_run_lists_and_calls_nobody(hub, described, capsys):
    assert main(["push", "ensemble", str(described), "--to", "org/tiny", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.index(MEMBERS[0]) < shown.index(MEMBERS[1]) < shown.index("org/tiny (")
    assert "out_of_fold" not in shown
    assert "notes" not in shown
    assert main(["push", "ensemble", str(described), "--to", "org/tiny", "--dry-run", "--json"]) == 0
    assert [one["repo_id"] for one in json.loads(capsys.readouterr().out)] == [*MEMBERS, "org/tiny"]
    assert hub.calls == []


@pytest.mark.parametrize(
    ("spoil", "to", "sentence"),
    [
        (lambda folder: (folder / "README.md").unlink(), "org/tiny", "README.md is missing"),
        (
            lambda folder: (folder / "test_resnet" / "model.safetensors").write_bytes(b"x"),
            "org/tiny",
            "SHA-256 differs",
        ),
        (lambda folder: None, "tiny", "this is no Hub id"),
        (lambda folder: (folder / "ensemble.json").unlink(), "org/tiny", "ensemble.json"),
    ],
)
def test_what_cannot_be_pushed_is_one_sentence(described, tmp_path, spoil, to, sentence, capsys):
    folder = tmp_path / "spoilt"
    shutil.copytree(described, folder)
    spoil(folder)
    assert main(["push", "ensemble", str(folder), "--to", to, "--dry-run"]) == 2
    assert sentence in capsys.readouterr().err


def test_a_repository_keeps_what_others_put_there(hub, push):
    repo = hub.repos["model", "org/tiny"] = Repo("model", "org/tiny")
    repo.commit("main", "theirs", {"theirs.txt": (b"kept", False)})
    assert push().returncode == 0
    assert repo.head.files["theirs.txt"] == (b"kept", False)
