"""Push to the Hub: a repository a member, then one for the ensemble, whose manifest pins each member to its commit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bus_hf.ensemble.download import REPO
from bus_hf.ensemble.folder import member_files, parts, read_manifest, verify
from bus_hf.errors import BusError
from bus_hf.filenames import (
    CALIBRATION,
    CONFIG,
    GRAPH,
    LESION_HEAD,
    LESION_TYPE,
    MANIFEST,
    PLOTS,
    REPORT,
    TRAINING,
    WEIGHTS,
)
from bus_hf.hub.outgoing import outgoing
from bus_hf.hub_errors import hub_errors

_MEMBER_FILES = ("README.md", CONFIG, WEIGHTS)
_ENSEMBLE_FILES = ("README.md",)
# Sent where they are there, with `_plots`.
_FURTHER = (REPORT, TRAINING, CALIBRATION, f"{LESION_TYPE}/{REPORT}")


@dataclass(frozen=True)
class Upload:
    """One repository of a push: the files that go into it, by their path there, each a file here or its content."""

    repo_id: str
    title: str
    files: dict[str, Path | bytes]
    kind: str = "model"
    # What lies below this folder of the repository and is not among the files goes.
    whole: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(file) if isinstance(file, bytes) else file.stat().st_size for file in self.files.values())


@dataclass(frozen=True)
class Pushed:
    """Where an upload ended: its commit, and whether that is a new one."""

    repo_id: str
    commit: str
    changed: bool


def plan(folder: str | Path, repo_id: str) -> tuple[Upload, ...]:
    """What a push of an ensemble folder uploads: members first, the ensemble last; nothing is sent.

    Args:
        folder: ensemble folder; its members lie inside it.
        repo_id: `owner/name` of the ensemble; members go to `owner/name-MEMBER`.

    Returns:
        An upload a repository. The manifest among the files of the last one is that of the folder, not pinned yet.

    Raises:
        BusError: no Hub id, no ensemble, a file that is missing or not the one that the manifest names.
    """
    folder = Path(folder)
    checked(repo_id)
    outgoing(folder, (), [MANIFEST])
    manifest = read_manifest(folder)
    everything = parts(manifest, None)
    away = [member.name for member in everything if member.path is None]
    if away:
        raise BusError(
            f"member '{away[0]}' lies on the Hub and not in this folder",
            where=folder,
            remedy="give the folder it was pushed from",
        )
    plots = _plots([point.name for point in manifest.operating_points])
    uploads = []
    for member in everything:
        home = f"{member.path}/"
        # A lesion head that is not the ensemble's goes too: training can start from it.
        sent = outgoing(
            folder,
            [home + name for name in member_files(manifest, member)],
            [home + name for name in ("README.md", manifest.lesion_map.file, *plots)],
        )
        files: dict[str, Path | bytes] = {name.removeprefix(home): path for name, path in sent.items()}
        uploads.append(
            Upload(f"{repo_id}-{member.name}", f"{member.name} of {manifest.name} {manifest.version}", files)
        )
    files = {**outgoing(folder, [*_ENSEMBLE_FILES, MANIFEST], [*_FURTHER, *plots])}
    # Of links and pipes nothing has been read by now.
    verify(folder, manifest)
    return (*uploads, Upload(repo_id, f"{manifest.name} {manifest.version}", files))


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[Pushed, ...]:
    """Push an ensemble folder: its members, then the manifest that pins them. What is there already is not sent again.

    Args:
        folder: as for `plan`.
        repo_id: as for `plan`.
        private: make new repositories private; those that exist stay as they are.
        revision: branch to push to, made where it is missing; None: main.
        report: called with a line before each upload.

    Returns:
        The commit of each repository, the ensemble's last.

    Raises:
        BusError: as for `plan`; no access, or the Hub cannot be reached. The ensemble's repository still holds what it
            held before, and the same call goes on.
    """
    uploads = plan(folder, repo_id)
    manifest = read_manifest(folder)
    done = []
    for upload in uploads[:-1]:
        if report:
            report(f"{upload.repo_id}: {len(upload.files)} files, {upload.size / 1e6:.1f} MB")
        done.append(send(upload, private, revision))
    kept = [
        dataclasses.replace(member, path=None, repo_id=pushed.repo_id, revision=pushed.commit)
        for member, pushed in zip(parts(manifest, None), done, strict=True)
    ]
    count, classifier = len(manifest.members), manifest.lesion_type
    pinned = dataclasses.replace(
        manifest,
        members=tuple(kept[:count]),
        lesion_type=dataclasses.replace(classifier, member=kept[count]) if classifier else None,
    )
    text = json.dumps(dataclasses.asdict(pinned), indent=2, ensure_ascii=False) + "\n"
    last = dataclasses.replace(uploads[-1], files=uploads[-1].files | {MANIFEST: text.encode()})
    if report:
        report(f"{last.repo_id}: {len(last.files)} files, {last.size / 1e6:.1f} MB")
    return (*done, send(last, private, revision))


def push_member(
    folder: str | Path,
    repo_id: str,
    *,
    points: Sequence[str] = (),
    private: bool = False,
    revision: str | None = None,
) -> Pushed:
    """Push one member's folder to a repository: `config.json`, weights, card; graph, lesion head and plots where there.

    Args:
        folder: of the member.
        repo_id: `owner/name` of its repository.
        points: operating points whose confusion matrices are among the plots.
        private: make a new repository private.
        revision: branch, made where it is missing; None: main.
    """
    checked(repo_id)
    files = outgoing(Path(folder), _MEMBER_FILES, (GRAPH, LESION_HEAD, *_plots(points)))
    return send(Upload(repo_id, "member", {**files}), private, revision)


def checked(repo_id: str) -> None:
    """BusError where `repo_id` is no Hub id."""
    if not REPO.fullmatch(repo_id):
        raise BusError("this is no Hub id", where=repo_id, remedy="write owner/name")


def _plots(points: Sequence[str]) -> list[str]:
    """Plots that an ensemble or a member may have."""
    further = ("plots/training_history.png", *(f"plots/confusion_matrix_{point}.png" for point in points))
    return sorted((*PLOTS, *further))


def send(
    upload: Upload,
    private: bool,
    revision: str | None,
    *,
    variables: Mapping[str, str] | None = None,
    sdk: str = "gradio",
) -> Pushed:
    """Bring one repository to the content of `upload`, in one commit, or none where it has it already.

    Args:
        upload: the repository and its files; what else lies there stays, but for what is below `upload.whole`.
        private: make a new repository private.
        revision: branch, made where it is missing; None: main.
        variables: settings of a Space.
        sdk: what runs a new Space.

    Raises:
        BusError: a file became something else since it was planned, no access, or the Hub cannot be reached; the
            repository is as it was before.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    for file in upload.files.values():
        if isinstance(file, Path) and (file.is_symlink() or not file.is_file()):
            raise BusError("it is no regular file any more", where=file, remedy="put the file itself there")

    api = HfApi()
    with hub_errors(upload.repo_id, writing=True):
        kind = sdk if upload.kind == "space" else None
        api.create_repo(upload.repo_id, repo_type=upload.kind, private=private, exist_ok=True, space_sdk=kind)
        if revision is not None:
            api.create_branch(upload.repo_id, repo_type=upload.kind, branch=revision, exist_ok=True)
        known = api.repo_info(upload.repo_id, repo_type=upload.kind, revision=revision)
        before = known.sha
        stale = [
            file.rfilename
            for file in getattr(known, "siblings", None) or ()
            if upload.whole and file.rfilename.startswith(f"{upload.whole}/") and file.rfilename not in upload.files
        ]
        made = api.create_commit(
            upload.repo_id,
            [
                *(
                    CommitOperationAdd(path, file if isinstance(file, bytes) else str(file))
                    for path, file in upload.files.items()
                ),
                *(CommitOperationDelete(path) for path in stale),
            ],
            repo_type=upload.kind,
            commit_message=upload.title,
            revision=revision,
        )
        for name, value in (variables or {}).items():
            api.add_space_variable(upload.repo_id, name, value)
        return Pushed(upload.repo_id, str(made.oid), made.oid != before)
