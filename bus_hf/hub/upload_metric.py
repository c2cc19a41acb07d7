"""The metric bus_screening to the Hub, as the Space that `evaluate.load` reads."""

from __future__ import annotations

from pathlib import Path

from bus_hf.errors import BusError
from bus_hf.hub.project import HOME, project_files
from bus_hf.hub.upload import Pushed, Upload, checked, send

_NAME = "bus_screening"
_FOLDER = f"metrics/{_NAME}/"


def plan(repo_id: str, home: Path = HOME) -> Upload:
    """What a push of the metric uploads, under the name of the repository; nothing is sent.

    Args:
        repo_id: `owner/bus_screening`.
        home: the folder that holds the package, a clone or site-packages.

    Raises:
        BusError: no Hub id, another name than the metric's, or a file is missing.
    """
    checked(repo_id)
    # evaluate looks for NAME.py in the Space NAME.
    if repo_id.split("/")[1] != _NAME:
        raise BusError("evaluate finds the metric by its name alone", where=repo_id, remedy=f"write owner/{_NAME}")
    files = project_files([_FOLDER + name for name in (f"{_NAME}.py", "README.md", "requirements.txt")], home)
    return Upload(
        repo_id, f"The metric {_NAME}", {name.removeprefix(_FOLDER): path for name, path in files.items()}, "space"
    )


def push(repo_id: str, *, private: bool = False, home: Path = HOME) -> Pushed:
    """Push the metric; arguments and errors are those of `plan`, `private` makes a new Space private."""
    return send(plan(repo_id, home), private, None, sdk="static")
