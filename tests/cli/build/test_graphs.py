from bus_hf.cli import main
from bus_hf.ensemble.folder import read_manifest


def test_graphs_are_added_and_named(tmp_path, make_ensemble, capsys):
    make_ensemble(tmp_path / "ensemble")
    assert main(["build", "graphs", str(tmp_path / "ensemble")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["test_efficientnet", "test_resnet"]
    assert all(member.graph_sha256 for member in read_manifest(tmp_path / "ensemble").members)


def test_a_folder_without_an_ensemble_is_a_sentence(tmp_path, capsys):
    assert main(["build", "graphs", str(tmp_path)]) == 2
    assert "give the folder of an ensemble" in capsys.readouterr().err
