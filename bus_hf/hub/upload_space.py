"""The page to the Hub: exactly the files that it imports, and a card with the ensemble that it preloads."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from bus_hf.ensemble import download
from bus_hf.ensemble.folder import member_files, parts
from bus_hf.filenames import MANIFEST
from bus_hf.hub.outgoing import outgoing
from bus_hf.hub.project import HOME, from_wheel, project_files
from bus_hf.hub.upload import Pushed, Upload, checked, send
from bus_hf.reporting.cards import replace_between

VARIABLE, REVISION = "BUS_HF_ENSEMBLE", "BUS_HF_REVISION"
_APP, _CARD = "app.py", "README.md"
_TOP = (_APP, "requirements.txt", "LICENSE", "CITATION.cff")
_PACKAGE = "bus_hf"


def plan(
    repo_id: str, ensemble: str, *, datasets: Sequence[str] = (), revision: str | None = None, home: Path = HOME
) -> Upload:
    """What a push of the Space uploads; the Hub is asked for the ensemble's manifest, and nothing is sent.

    Args:
        repo_id: `owner/name` of the Space.
        ensemble: `owner/name` of the ensemble that it serves.
        datasets: Hub ids of the data sets that the ensemble learned from, for the front matter.
        revision: branch, tag or commit of the ensemble that is served; None: its newest at this moment.
        home: the folder that holds the package, a clone or site-packages.

    Raises:
        BusError: no Hub id, no such ensemble, or a file is missing.
    """
    checked(repo_id)
    checked(ensemble)
    files: dict[str, Path | bytes] = {**project_files(_TOP, home)}
    modules = (path.relative_to(home).as_posix() for path in imported(home))
    files |= outgoing(home, modules, linked=from_wheel(home))
    files[_CARD] = _card(project_files([_CARD], home)[_CARD], ensemble, datasets, revision)
    return Upload(repo_id, f"Serve {ensemble}", files, "space")


def push(
    repo_id: str,
    ensemble: str,
    *,
    datasets: Sequence[str] = (),
    revision: str | None = None,
    private: bool = False,
    home: Path = HOME,
) -> Pushed:
    """Push the Space and set the variable that names its ensemble; arguments and errors are those of `plan`.

    Args:
        repo_id: as for `plan`.
        ensemble: as for `plan`.
        datasets: as for `plan`.
        revision: as for `plan`.
        private: make a new Space private.
        home: as for `plan`.
    """
    for name in (repo_id, ensemble):
        checked(name)
    # Asked for once: what is preloaded and what is served are of one commit.
    commit = download.manifest(ensemble, revision)[1]
    upload = plan(repo_id, ensemble, datasets=datasets, revision=commit, home=home)
    return send(upload, private, None, variables={VARIABLE: ensemble, REVISION: commit})


def imported(home: Path = HOME) -> list[Path]:
    """Files of the package that `app.py` imports, by whatever way, and those beside them that their code names."""
    first = home / _PACKAGE / "__init__.py"
    waiting, modules = [project_files([_APP], home)[_APP], first], {first}
    while waiting:
        path = waiting.pop()
        for module in _modules(path):
            for file in _sources(home, module):
                if file not in modules:
                    modules.add(file)
                    waiting.append(file)
    return sorted(modules | {other for path in modules for other in _named(path)})


def _named(path: Path) -> list[Path]:
    """Files beside a module that are no code and that it names in a text."""
    texts = {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return [other for other in path.parent.iterdir() if other.name in texts and other.suffix in (".css", ".js", ".md")]


def _modules(path: Path) -> set[str]:
    """Dotted names that a file may import from the package, those of `from a import b` as both a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == _PACKAGE}


def _sources(home: Path, module: str) -> list[Path]:
    """Source of a module and of the packages that it lies in; none where the name is no module."""
    parts = module.split(".")
    whole = home.joinpath(*parts)
    source = [path for path in (whole.with_suffix(".py"), whole / "__init__.py") if path.is_file()]
    above = [home.joinpath(*parts[:k], "__init__.py") for k in range(1, len(parts))]
    return source + [path for path in above if path.is_file()] if source else []


def _card(path: Path, ensemble: str, datasets: Sequence[str], revision: str | None) -> bytes:
    """The README at `path` with the front matter of this Space."""
    from huggingface_hub import SpaceCard

    manifest, commit = download.manifest(ensemble, revision)
    link = f"[The card of {ensemble}](https://huggingface.co/{ensemble}) has its metrics.\n"
    text = replace_between(path.read_text(encoding="utf-8"), "figures", link)
    card = SpaceCard(text, ignore_metadata_errors=False)
    away = [member for member in parts(manifest, None) if member.repo_id is not None]
    card.data["models"] = [ensemble, *(str(member.repo_id) for member in away)]
    if datasets:
        card.data["datasets"] = list(datasets)
    # As the Hub's build reads it: repository, files and commit.
    card.data["preload_from_hub"] = [
        f"{ensemble} {','.join((MANIFEST, *download.SHOWN))} {commit}",
        *(f"{member.repo_id} {','.join(member_files(manifest, member))} {member.revision}" for member in away),
    ]
    return str(card).encode()
