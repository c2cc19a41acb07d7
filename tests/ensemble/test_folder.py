"""The manifest keeps every rule, and a wrong file or key is one sentence that names it."""

import dataclasses
import json
import os
import shutil

import pytest

from bus_hf.ensemble.folder import (
    choose_members,
    member_folder,
    needed_members,
    read_manifest,
    sha256,
    verify,
    write_manifest,
)
from bus_hf.errors import BusError

HASH = "a" * 64
COMMIT = "c" * 40


def manifest():
    """A manifest as in the file, two members, one of them on the Hub."""
    return {
        "schema": 3,
        "name": "bus-ensemble",
        "version": "1.0.0",
        "label_set": "malignancy",
        "labels": ["benign", "malignant"],
        "positive": "malignant",
        "members": [
            {
                "name": "lite",
                "path": "members/lite",
                "repo_id": None,
                "revision": None,
                "sha256": HASH,
                "weight": 0.25,
                "config_sha256": HASH,
                "graph_sha256": HASH,
            },
            {
                "name": "resnet50",
                "path": None,
                "repo_id": "someone/bus-resnet50",
                "revision": COMMIT,
                "sha256": HASH,
                "weight": 0.75,
                "config_sha256": HASH,
                "graph_sha256": None,
            },
        ],
        "views": {"whole": 0.2, "flip": 0.2, "wider": 0.1, "lesion": 0.25, "around": 0.25},
        "lesion_map": {
            "member": "lite",
            "file": "lesion_head.safetensors",
            "sha256": HASH,
            "min_peak": 0.2,
            "found_peak": 0.2,
        },
        "temperature": 1.08,
        "bias": -0.2,
        "operating_points": [
            {
                "name": "miss_5_in_100",
                "logit": -1.32,
                "sensitivity": [0.95, 0.93, 0.97],
                "specificity": [0.71, 0.68, 0.74],
            }
        ],
        "default_operating_point": "miss_5_in_100",
        "abstain": {"low_logit": -1.5, "high_logit": -0.66, "coverage": 0.83, "error": 0.05, "method": "measured"},
        "light": "lite",
        "fitted_on": {
            "sources": {"busi": 616, "busbra": 1500},
            "groups": 1400,
            "prevalence": 0.31,
            "out_of_fold_sha256": HASH,
        },
        "lesion_type": None,
    }


def put(folder, data):
    (folder / "ensemble.json").write_text(data if isinstance(data, str) else json.dumps(data))


def changed(path, value):
    """A manifest with one entry replaced, or taken out where `value` is `...`."""
    data = manifest()
    *way, last = path
    place = data
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return data


def test_reading_gives_every_field(tmp_path):
    put(tmp_path, manifest())
    result = read_manifest(tmp_path)
    assert result.labels == ("benign", "malignant")
    assert result.malignant == 1
    assert result.members[1].repo_id == "someone/bus-resnet50"
    assert result.operating_points[0].sensitivity == (0.95, 0.93, 0.97)
    assert result.fitted_on.sources == {"busi": 616, "busbra": 1500}
    assert json.loads(json.dumps(dataclasses.asdict(result))) == manifest()


@pytest.mark.parametrize("path", [("abstain",), ("fitted_on", "out_of_fold_sha256")])
def test_what_may_be_none(tmp_path, path):
    put(tmp_path, changed(path, None))
    read_manifest(tmp_path)


def test_a_member_may_have_no_graph(tmp_path):
    given = manifest()
    del given["members"][0]["graph_sha256"]
    put(tmp_path, given)
    assert [member.graph_sha256 for member in read_manifest(tmp_path).members] == [None, None]


def test_read_write_read_is_equal(tmp_path):
    put(tmp_path, manifest())
    first = read_manifest(tmp_path)
    write_manifest(first, tmp_path / "new" / "folder")
    assert read_manifest(tmp_path / "new" / "folder") == first
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == ["ensemble.json"]


def test_no_manifest_can_be_made_that_breaks_a_rule(tmp_path):
    put(tmp_path, manifest())
    with pytest.raises(ValueError, match="light is 'nobody'"):
        dataclasses.replace(read_manifest(tmp_path), light="nobody")


def test_a_write_that_fails_leaves_the_old_manifest_and_no_rest(tmp_path, monkeypatch):
    put(tmp_path, manifest())
    first = read_manifest(tmp_path)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_manifest(dataclasses.replace(first, version="2"), tmp_path)
    assert read_manifest(tmp_path) == first
    assert [file.name for file in tmp_path.iterdir()] == ["ensemble.json"]


OBJECTS = [
    (),
    ("members", 0),
    ("lesion_map",),
    ("operating_points", 0),
    ("abstain",),
    ("fitted_on",),
]


@pytest.mark.parametrize("where", OBJECTS)
def test_an_unknown_key_is_named_at_every_level(tmp_path, where):
    put(tmp_path, changed((*where, "colour"), 1))
    with pytest.raises(BusError, match="unknown key 'colour'"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("where", OBJECTS)
def test_a_missing_key_is_named_at_every_level(tmp_path, where):
    place = manifest()
    for key in where:
        place = place[key]
    # A member that was made before there were graphs has none.
    for key in set(place) - {"graph_sha256"}:
        put(tmp_path, changed((*where, key), ...))
        with pytest.raises(BusError, match=rf"'{key}' is missing"):
            read_manifest(tmp_path)


WRONG = [
    (("schema",), 4, "schema 4 is newer"),
    (("schema",), 2, "schema 2 is older than this bus_hf reads .*build the ensemble again, or download"),
    (("schema",), True, "schema is true"),
    (("schema",), "1", 'schema is "1"'),
    (("label_set",), "species", "no label set 'species'"),
    (("label_set",), "busi3", "label set 'busi3'"),
    (("labels",), ["malignant", "benign"], "label set 'malignancy'"),
    (("positive",), "benign", "label set 'malignancy'"),
    (("positive",), None, "label set 'malignancy'"),
    (("members",), [], "members is empty"),
    (("members",), {}, "members is {}"),
    (("members", 1, "name"), "lite", "same name"),
    (("members", 0, "name"), "../lite", r"members\[0\].name is \"../lite\"; give letters, digits"),
    (("members", 0, "weight"), -0.25, r"members\[0\].weight is -0.25; give a value from 0 to 1"),
    (("members", 0, "weight"), 0.26, "weights of members sum to 1.01"),
    (("members", 0, "weight"), True, r"members\[0\].weight is true"),
    (("members", 0, "weight"), "0.25", r"members\[0\].weight"),
    (("members", 0, "sha256"), "A" * 64, r"members\[0\].sha256 is .*64 lower-case hex digits"),
    (("members", 0, "sha256"), "", r"members\[0\].sha256 is \"\""),
    (("members", 0, "repo_id"), "someone/lite", "'lite' has path and repo_id"),
    (("members", 0, "path"), None, "'lite' has neither path nor repo_id"),
    (("members", 0, "revision"), COMMIT, "'lite' has a revision but no repo_id"),
    (("members", 1, "revision"), None, "'resnet50' has a repo_id but no revision; give a commit"),
    (("members", 1, "revision"), "main", r"members\[1\].revision is \"main\"; give the 40 hex digits of a commit"),
    (("members", 1, "repo_id"), "../../etc", r"members\[1\].repo_id is .*; give owner/name"),
    (("members", 0, "path"), "../lite", r"members\[0\].path is \"../lite\"; give a path inside the folder"),
    (("members", 0, "path"), "a/../../lite", r"members\[0\].path is"),
    (("members", 0, "path"), "/etc", r"members\[0\].path is \"/etc\""),
    (("members", 0, "path"), "..\\lite", r"members\[0\].path is"),
    (("members", 0, "path"), "C:/lite", r"members\[0\].path is"),
    (("members", 0, "path"), "", r"members\[0\].path is"),
    (("members", 0, "path"), "a\u0000b", r"members\[0\].path is"),
    (("members", 0, "path"), "*", r"members\[0\].path is"),
    (("views", "sideways"), 0.0, "'sideways'"),
    (("views", "whole"), -0.2, "views.whole is -0.2; give a value from 0 to 1"),
    (("views", "whole"), 0.4, "weights of views sum to 1.2"),
    (("views",), {}, "weights of views sum to 0"),
    (("lesion_map", "member"), "nobody", "lesion_map.member is 'nobody'"),
    (("lesion_map", "file"), "../head.safetensors", "lesion_map.file is .*; give a path inside the folder"),
    (("lesion_map", "file"), "head.pt", "lesion_map.file is 'head.pt'"),
    (("lesion_map", "sha256"), "x", "lesion_map.sha256"),
    (("lesion_map", "min_peak"), 1.5, "lesion_map.min_peak is 1.5"),
    (("lesion_map", "min_peak"), 0, "lesion_map.min_peak is 0"),
    (("temperature",), 5e-324, "temperature is 5e-324; give a value from 0.001 to 1000"),
    (("temperature",), 1e300, "temperature is 1e\\+300"),
    (("temperature",), 10**400, "temperature is 1000"),
    (("bias",), 1e308, "bias is 1e\\+308"),
    (("operating_points", 0, "logit"), -1e300, r"operating_points\[0\].logit is -1e\+300"),
    (("abstain", "high_logit"), 1e300, "abstain.high_logit is 1e\\+300"),
    (("members", 0, "config_sha256"), "x", r"members\[0\].config_sha256 is \"x\""),
    (("temperature",), 0, "temperature is 0"),
    (("temperature",), -1.0, "temperature is -1"),
    (("operating_points", 0, "logit"), "-1", 'operating_points\\[0\\].logit is "-1"'),
    (("fitted_on", "prevalence"), 31, "fitted_on.prevalence is 31"),
    (("operating_points", 0, "sensitivity"), [0.95, 0.93], r"sensitivity is \[0.95, 0.93\]; give a list of 3"),
    (("operating_points", 0, "sensitivity"), [0.9, 0.93, 0.97], "sensitivity of 'miss_5_in_100' lies outside"),
    (("operating_points", 0, "specificity"), [0.9, 0.8, 1.97], r"operating_points\[0\].specificity\[2\] is 1.97"),
    (("operating_points",), [], "default_operating_point is 'miss_5_in_100'"),
    (("operating_points",), manifest()["operating_points"] * 2, "two operating points"),
    (("default_operating_point",), "best", "default_operating_point is 'best'"),
    (("abstain", "low_logit"), 0.5, "abstain.low_logit 0.5 is above abstain.high_logit -0.66"),
    (("abstain", "coverage"), 83, "abstain.coverage is 83"),
    (("light",), "nobody", "light is 'nobody'"),
    (("fitted_on", "sources", "busi"), -1, "fitted_on.sources.busi is -1; give a value from 0 to"),
    (("fitted_on", "groups"), True, "fitted_on.groups is true"),
    (("fitted_on", "groups"), 1.5, "fitted_on.groups is 1.5"),
    (("fitted_on", "out_of_fold_sha256"), "…", "fitted_on.out_of_fold_sha256"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_one_sentence_that_names_it(tmp_path, path, value, message):
    put(tmp_path, changed(path, value))
    with pytest.raises(BusError, match=message) as caught:
        read_manifest(tmp_path)
    text = str(caught.value)
    assert text.startswith(str(tmp_path / "ensemble.json"))
    assert text.endswith(".")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", r"the file is \[1\]"),
        ("null", "the file is null"),
        ('{"name": 1, "name": 2}', "stands twice"),
        ('{"schema": 3, "pad": "' + "x" * (1 << 20) + '"}', "larger than 1 MiB"),
        (json.dumps(manifest()).replace("1.08", "NaN"), "temperature is NaN"),
        (json.dumps(manifest()).replace("1.08", "1e999"), "temperature is Infinity"),
    ],
    ids=["empty", "open", "deep", "list", "null", "doubled", "large", "nan", "infinite"],
)
def test_what_is_no_manifest_at_all(tmp_path, text, message):
    put(tmp_path, text)
    with pytest.raises(BusError, match=message):
        read_manifest(tmp_path)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "ensemble.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(BusError, match="not valid JSON"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest(tmp_path):
    with pytest.raises(BusError, match="No such file"):
        read_manifest(tmp_path)
    with pytest.raises(BusError, match="No such file"):
        read_manifest(tmp_path / "nowhere")


@pytest.fixture
def folder(tiny_ensemble, tmp_path):
    """A copy of the tiny ensemble that may be damaged."""
    shutil.copytree(tiny_ensemble, tmp_path / "ensemble")
    return tmp_path / "ensemble"


def refused(folder, message, members=None):
    with pytest.raises(BusError, match=message) as caught:
        verify(folder, read_manifest(folder), members)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_untouched_folder_is_verified(folder):
    verify(folder, read_manifest(folder))


@pytest.mark.parametrize(
    "name",
    [
        "test_efficientnet/model.safetensors",
        "test_resnet/model.safetensors",
        "test_efficientnet/lesion_head.safetensors",
    ],
)
def test_one_changed_byte_is_found_and_named(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    assert name in refused(folder, "SHA-256 differs")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "lesion_head.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / "test_efficientnet" / name).unlink()
    refused(folder, f"{name} is missing")


def test_a_missing_member_folder_is_named(folder):
    shutil.rmtree(folder / "test_resnet")
    refused(folder, "member 'test_resnet' is missing")


@pytest.mark.parametrize("ending", [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".PTH"])
def test_a_pickle_is_refused_even_beside_good_weights(folder, ending):
    (folder / "test_resnet" / f"pytorch_model{ending}").write_bytes(b"\x80\x04.")
    assert "pytorch_model" in refused(folder, "pickle")


def test_a_part_is_verified_alone(folder):
    shutil.rmtree(folder / "test_resnet")
    verify(folder, read_manifest(folder), "light")


def test_the_owner_of_the_lesion_map_is_verified_with_any_part(folder):
    (folder / "test_efficientnet" / "lesion_head.safetensors").unlink()
    refused(folder, "lesion_head.safetensors is missing", ["test_resnet"])


def test_a_member_folder_linked_from_outside_is_refused(folder, tmp_path):
    shutil.move(folder / "test_resnet", tmp_path / "outside")
    (folder / "test_resnet").symlink_to(tmp_path / "outside")
    refused(folder, "leads out of the folder")
    result = read_manifest(folder)
    with pytest.raises(BusError, match="path of member 'test_resnet' leads out"):
        member_folder(folder, result.members[1])


def test_weights_linked_from_outside_are_refused(folder, tmp_path):
    weights = folder / "test_resnet" / "model.safetensors"
    shutil.move(weights, tmp_path / "outside.safetensors")
    weights.symlink_to(tmp_path / "outside.safetensors")
    refused(folder, "leads out of the folder")


def test_a_loop_of_links_is_refused(folder):
    shutil.rmtree(folder / "test_resnet")
    (folder / "test_resnet").symlink_to(folder / "test_resnet")
    refused(folder, "'test_resnet'")


def test_the_links_of_the_hub_cache_are_followed(folder, tmp_path):
    home = tmp_path / "models--a--b"
    snapshot = home / "snapshots" / COMMIT
    (home / "blobs").mkdir(parents=True)
    shutil.copytree(folder, snapshot)
    for index, file in enumerate(sorted(path for path in snapshot.rglob("*") if path.is_file())):
        shutil.move(file, home / "blobs" / str(index))
        file.symlink_to(os.path.relpath(home / "blobs" / str(index), file.parent))
    verify(snapshot, read_manifest(snapshot))


def test_a_hub_member_that_was_not_fetched_is_named(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    put(tmp_path, manifest())
    with pytest.raises(BusError, match="someone/bus-resnet50"):
        member_folder(tmp_path, read_manifest(tmp_path).members[1])


def test_members_are_chosen_by_name_or_as_light(tmp_path):
    put(tmp_path, changed(("light",), "resnet50"))
    result = read_manifest(tmp_path)
    lite, resnet = result.members
    assert choose_members(result, None) == (lite, resnet)
    assert choose_members(result, "light") == (resnet,)
    assert choose_members(result, ["light", "resnet50"]) == (resnet,)
    assert choose_members(result, ["resnet50", "lite"]) == (lite, resnet)
    assert needed_members(result, ["light"]) == (lite, resnet)
    assert needed_members(result, ["lite"]) == (lite,)
    with pytest.raises(BusError, match=r"no member 'vgg'.*lite, resnet50"):
        choose_members(result, ["vgg"])
    with pytest.raises(BusError, match="no member is chosen"):
        choose_members(result, [])


def test_sha256_is_the_files(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
