"""Graphs join an ensemble that has none, and its manifest names them."""

import json

import pytest

from bus_hf.build import graphs
from bus_hf.ensemble.folder import read_manifest, sha256, verify
from bus_hf.errors import BusError
from bus_hf.inference import export


def test_every_member_gets_a_graph_whose_hash_is_the_manifests(graphed_ensemble, tiny_ensemble):
    manifest = read_manifest(graphed_ensemble)
    verify(graphed_ensemble, manifest)
    for member in manifest.members:
        assert member.graph_sha256 == sha256(graphed_ensemble / member.path / "graph.onnx")
    plain = json.loads((tiny_ensemble / "ensemble.json").read_text())
    data = json.loads((graphed_ensemble / "ensemble.json").read_text())
    for member in data["members"]:
        member["graph_sha256"] = None
    assert data == plain


def test_a_network_that_has_no_graph_stays_without_one(tmp_path, make_ensemble, monkeypatch, capsys):
    make_ensemble(tmp_path / "ensemble")
    exported = export._exported

    def without_resnet(network, size):
        if size == 96:
            raise RuntimeError("no such operator")
        return exported(network, size)

    monkeypatch.setattr(export, "_exported", without_resnet)
    assert [*graphs.add(tmp_path / "ensemble")] == ["test_efficientnet"]
    assert "bus-hf: test_resnet cannot be written as graph.onnx" in capsys.readouterr().err
    manifest = read_manifest(tmp_path / "ensemble")
    assert [member.graph_sha256 is None for member in manifest.members] == [False, True]
    verify(tmp_path / "ensemble", manifest)


def test_weights_that_are_not_the_manifests_get_no_graph(tmp_path, make_ensemble):
    make_ensemble(tmp_path / "ensemble")
    path = tmp_path / "ensemble" / "test_resnet" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BusError, match="its SHA-256 differs"):
        graphs.add(tmp_path / "ensemble")
