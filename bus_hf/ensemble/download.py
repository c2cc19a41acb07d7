"""The Hub: an ensemble folder fetched from it, at one commit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bus_hf.ensemble.folder import member_files, parts, read_manifest
from bus_hf.ensemble.manifest import Ensemble
from bus_hf.errors import BusError
from bus_hf.filenames import CALIBRATION, LESION_TYPE, MANIFEST, PLOTS, REPORT, TRAINING
from bus_hf.hub_errors import hub_errors

# What the page says about an ensemble, beside the manifest.
SHOWN = (REPORT, TRAINING, CALIBRATION, f"{LESION_TYPE}/{REPORT}", *PLOTS)
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def pull(folder_or_id: str | Path, revision: str | None = None, members: Sequence[str] | None = None) -> Path:
    """Make an ensemble ready on this machine.

    Args:
        folder_or_id: an ensemble folder, which is itself, or a Hub id `owner/name`.
        revision: branch, tag or commit of the Hub id.
        members: names as in `folder.choose_members`; only they and the owner of the lesion map are fetched.

    Returns:
        The folder that holds `ensemble.json`: `folder_or_id`, or a snapshot in the Hub cache. Members that the manifest
        keeps in repositories of their own are in the Hub cache too.

    Raises:
        BusError: no such folder or repository, no access to it, no such revision, or the Hub cannot be reached.
    """
    folder = Path(folder_or_id).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise BusError("a folder has no revision", where=folder, remedy="leave the revision out, or give a Hub id")
    elif REPO.fullmatch(str(folder_or_id)) and not folder.exists():
        repo_id = str(folder_or_id)
        ensemble, commit = manifest(repo_id, revision)
        files = [
            PurePosixPath(member.path, name).as_posix()
            for member in parts(ensemble, members)
            if member.path is not None
            for name in member_files(ensemble, member)
        ]
        folder = _snapshot(repo_id, commit, [MANIFEST, *SHOWN, *files])
    else:
        what = "this is a file" if folder.is_file() else "there is no such folder"
        raise BusError(what, where=folder_or_id, remedy=f"give a folder that holds {MANIFEST}, or a Hub id owner/name")
    ensemble = read_manifest(folder)
    for member in parts(ensemble, members):
        if member.repo_id is not None:
            _snapshot(member.repo_id, member.revision, list(member_files(ensemble, member)))
    return folder


def manifest(repo_id: str, revision: str | None = None) -> tuple[Ensemble, str]:
    """The manifest of an ensemble on the Hub, without its members, and the commit that it was read at.

    Raises:
        BusError: as for `pull`.
    """
    folder = _snapshot(repo_id, revision, [MANIFEST])
    if not (folder / MANIFEST).is_file():
        raise BusError(f"it holds no {MANIFEST}", where=repo_id, remedy="give the Hub id of an ensemble")
    return read_manifest(folder), folder.name


def _snapshot(repo_id: str, revision: str | None, files: list[str]) -> Path:
    """Fetch `files` of a repository (from the cache where they lie there); what is not there is left out."""
    import huggingface_hub

    with hub_errors(f"{repo_id}@{revision}" if revision else repo_id):
        return Path(huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=files))
