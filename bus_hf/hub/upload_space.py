"""Spaces on the Hub: the page, as exactly the files that it imports, with the ensemble it preloads; and the metric."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from bus_hf.ensemble import download
from bus_hf.ensemble.folder import member_files, parts
from bus_hf.errors import BusError
from bus_hf.filenames import MANIFEST
from bus_hf.hub.outgoing import outgoing
from bus_hf.hub.upload import Pushed, Upload, checked, send
from bus_hf.reporting.cards import replace_between

VARIABLE, REVISION = "BUS_HF_ENSEMBLE", "BUS_HF_REVISION"
_TOP = ("app.py", "requirements.txt", "LICENSE", "CITATION.cff")
_PACKAGE = "bus_hf"
_METRIC = "bus_screening"


def plan(
    repo_id: str, ensemble: str, *, datasets: Sequence[str] = (), revision: str | None = None, root: Path | None = None
) -> Upload:
    """What a push of the Space uploads; the Hub is asked for the ensemble's manifest, and nothing is sent.

    Args:
        repo_id: `owner/name` of the Space.
        ensemble: `owner/name` of the ensemble that it serves.
        datasets: Hub ids of the data sets that the ensemble learned from, for the front matter.
        revision: branch, tag or commit of the ensemble that is served; None: its newest at this moment.
        root: a clone of this project; None: the one that this package lies in.

    Raises:
        BusError: no Hub id, no such ensemble, or no clone to take the files from.
    """
    checked(repo_id)
    checked(ensemble)
    root = root or Path(__file__).resolve().parents[2]
    missing = [name for name in (*_TOP, "README.md") if not (root / name).is_file()]
    if missing:
        raise BusError(f"{missing[0]} is not here", where=root, remedy="push the Space from a clone of the project")
    outgoing(root, (*_TOP, "README.md"))
    files: dict[str, Path | bytes] = {**outgoing(root, [*_TOP, *(_below(path, root) for path in imported(root))])}
    return Upload(
        repo_id, f"Serve {ensemble}", files | {"README.md": _readme(root, ensemble, datasets, revision)}, "space"
    )


def push(
    repo_id: str,
    ensemble: str,
    *,
    datasets: Sequence[str] = (),
    revision: str | None = None,
    private: bool = False,
    root: Path | None = None,
) -> Pushed:
    """Push the Space and set the variable that names its ensemble; arguments and errors are those of `plan`.

    Args:
        repo_id: as for `plan`.
        ensemble: as for `plan`.
        datasets: as for `plan`.
        revision: as for `plan`.
        private: make a new Space private.
        root: as for `plan`.
    """
    for name in (repo_id, ensemble):
        checked(name)
    # Asked for once: what is preloaded and what is served are of one commit.
    commit = download.manifest(ensemble, revision)[1]
    upload = plan(repo_id, ensemble, datasets=datasets, revision=commit, root=root)
    return send(upload, private, None, variables={VARIABLE: ensemble, REVISION: commit})


def metric(repo_id: str, root: Path | None = None) -> Upload:
    """What a push of the metric uploads: the folder that `evaluate.load` reads, under the name of the repository.

    Raises:
        BusError: no Hub id, another name than the metric's, or no clone to take the files from.
    """
    checked(repo_id)
    root = root or Path(__file__).resolve().parents[2]
    # evaluate looks for NAME.py in the Space NAME.
    if repo_id.split("/")[1] != _METRIC:
        raise BusError("evaluate finds the metric by its name alone", where=repo_id, remedy=f"write owner/{_METRIC}")
    home = f"metrics/{_METRIC}/"
    if not (root / home / f"{_METRIC}.py").exists():
        raise BusError(
            f"{_METRIC}.py is not here", where=root / home, remedy="push the metric from a clone of the project"
        )
    found = outgoing(root, [home + name for name in (f"{_METRIC}.py", "README.md", "requirements.txt")])
    return Upload(
        repo_id, f"The metric {_METRIC}", {name.removeprefix(home): path for name, path in found.items()}, "space"
    )


def push_metric(repo_id: str, *, private: bool = False, root: Path | None = None) -> Pushed:
    """Push the metric; arguments and errors are those of `metric`, `private` makes a new Space private."""
    return send(metric(repo_id, root), private, None, sdk="static")


def imported(root: Path) -> list[Path]:
    """Files of the package that `app.py` imports, by whatever way, and those beside them that their code names."""
    waiting, found = [root / "app.py"], {root / _PACKAGE / "__init__.py"}
    waiting += found
    while waiting:
        path = waiting.pop()
        for module in _modules(path):
            for file in _sources(root, module):
                if file not in found:
                    found.add(file)
                    waiting.append(file)
    return sorted(found | {other for path in found for other in _named(path)})


def _named(path: Path) -> list[Path]:
    """Files beside a module that are no code and that it names in a text."""
    texts = {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return [other for other in path.parent.iterdir() if other.name in texts and other.suffix in (".css", ".js", ".md")]


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _modules(path: Path) -> set[str]:
    """Dotted names that a file may import from the package, those of `from a import b` as both a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == _PACKAGE}


def _sources(root: Path, module: str) -> list[Path]:
    """Source of a module and of the packages that it lies in; none where the name is no module."""
    parts = module.split(".")
    whole = root.joinpath(*parts)
    own = [path for path in (whole.with_suffix(".py"), whole / "__init__.py") if path.is_file()]
    above = [root.joinpath(*parts[:k], "__init__.py") for k in range(1, len(parts))]
    return own + [path for path in above if path.is_file()] if own else []


def _readme(root: Path, ensemble: str, datasets: Sequence[str], revision: str | None) -> bytes:
    from huggingface_hub import SpaceCard

    manifest, commit = download.manifest(ensemble, revision)
    link = f"[The card of {ensemble}](https://huggingface.co/{ensemble}) has its figures.\n"
    text = replace_between((root / "README.md").read_text(encoding="utf-8"), "figures", link)
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
