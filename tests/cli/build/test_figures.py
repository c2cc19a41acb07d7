"""`bus-hf build figures`: tables, plots and cards come again."""

from bus_hf.cli import main


def test_figures_writes_the_tables_between_the_markers(assembled, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- figures:start -->\nthe old tables\n<!-- figures:end -->\nafter\n")
    before = (assembled / "report.json").read_text()
    assert main(["build", "figures", str(assembled), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- figures:start -->\n| images |")
    assert text.endswith("<!-- figures:end -->\nafter\n")
    assert "the old tables" not in text
    assert (assembled / "report.json").read_text() == before
    readme.write_text("no markers")
    assert main(["build", "figures", str(assembled), "--readme", str(readme)]) == 2
    assert "figures:start" in capsys.readouterr().err
