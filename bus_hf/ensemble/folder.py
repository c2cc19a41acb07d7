"""The ensemble folder: its manifest read and written, its members found on this machine and verified by hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from bus_hf.ensemble.manifest import Ensemble, Member, parse
from bus_hf.errors import BusError
from bus_hf.filenames import CONFIG, GRAPH, MANIFEST, WEIGHTS
from bus_hf.files import replace_file
from bus_hf.validation import read_bytes

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

_AGAIN = "download or export the member again"
# Bytes of each file that are read at most.
_MAX_BYTES = {CONFIG: 1 << 20, GRAPH: 16 << 20, WEIGHTS: 2 << 30}
_MAX_HEAD_BYTES = 64 << 20


def read_manifest(folder: str | Path) -> Ensemble:
    """Read and check the manifest of an ensemble folder; the members' files are checked by `verify`.

    Raises:
        BusError: no manifest, or the first thing that is wrong in it (unknown key, newer schema, weights, ...).
    """
    path = Path(folder) / MANIFEST
    return parse(read_bytes(path, "give the folder of an ensemble, which holds ensemble.json"), path)


def write_manifest(ensemble: Ensemble, folder: str | Path) -> None:
    """Write the manifest into `folder` (made where missing), whole or not at all."""
    path = Path(folder) / MANIFEST
    text = json.dumps(dataclasses.asdict(ensemble), indent=2, ensure_ascii=False) + "\n"
    with replace_file(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def choose_members(ensemble: Ensemble, members: Sequence[str] | None) -> tuple[Member, ...]:
    """The members called `members` ("light" is the light one), all for None; BusError lists the known names."""
    if members is None:
        return ensemble.members
    known = {member.name: member for member in ensemble.members}
    wanted = [members] if isinstance(members, str) else list(dict.fromkeys(members))
    names = [ensemble.light if name == "light" and name not in known else name for name in wanted]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"the ensemble has no member '{unknown[0]}'" if unknown else "no member is chosen"
        raise BusError(what, remedy=f"choose from {', '.join(known)} or light")
    return tuple(member for member in ensemble.members if member.name in names)


def needed_members(ensemble: Ensemble, members: Sequence[str] | None) -> tuple[Member, ...]:
    """The chosen members and the one that owns the lesion map: everything that inference takes."""
    chosen = {member.name for member in choose_members(ensemble, members)} | {ensemble.lesion_map.member}
    return tuple(member for member in ensemble.members if member.name in chosen)


def parts(ensemble: Ensemble, members: Sequence[str] | None) -> tuple[Member, ...]:
    """Whatever has files of its own: the needed members, and the lesion-type classifier where there is one."""
    classifier = ensemble.lesion_type
    return needed_members(ensemble, members) + ((classifier.member,) if classifier else ())


def member_folder(folder: str | Path, member: Member) -> Path:
    """Where a member lies on this machine: inside `folder`, or in the Hub cache.

    Raises:
        BusError: its path leaves the folder, there is no such folder, or the Hub copy was not fetched.
    """
    if member.path is not None:
        home = Path(folder) / member.path
        _inside(home, Path(folder), f"the path of member '{member.name}'")
    else:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(str(member.repo_id), CONFIG, revision=member.revision)
        if not isinstance(cached, str):
            raise BusError(
                f"member '{member.name}' ({member.repo_id}) is not on this machine",
                where=Path(folder) / MANIFEST,
                remedy="fetch the ensemble while the Hub can be reached",
            )
        home = Path(cached).parent
    if not home.is_dir():
        raise BusError(
            f"the folder of member '{member.name}' is missing", where=home, remedy="download or export it again"
        )
    return home


def member_files(ensemble: Ensemble, member: Member) -> dict[str, str]:
    """Names of the files of a part that the manifest names, and all that is read of it, each with its SHA-256.

    Whoever copies, fetches or sends a part takes these.
    """
    files = {CONFIG: member.config_sha256, WEIGHTS: member.sha256}
    if member.graph_sha256 is not None:
        files[GRAPH] = member.graph_sha256
    if member.name == ensemble.lesion_map.member:
        files[ensemble.lesion_map.file] = ensemble.lesion_map.sha256
    return files


def copy_parts(folder: str | Path, ensemble: Ensemble, to: Path) -> None:
    """Copy the files of every part that lies inside `folder` to the same places in `to`, and nothing else.

    Raises:
        BusError: as for `verify`.
        OSError: `to` cannot be written to.
    """
    for member in parts(ensemble, None):
        if member.path is None:
            continue
        for name, data in member_bytes(folder, ensemble, member).items():
            (to / member.path / name).parent.mkdir(parents=True, exist_ok=True)
            (to / member.path / name).write_bytes(data)


def verify(folder: str | Path, ensemble: Ensemble, members: Sequence[str] | None = None) -> None:
    """Check the files of the needed parts: present, inside the folder, no pickles, hashes as in the manifest.

    Raises:
        BusError: the first file that is wrong.
    """
    for member in parts(ensemble, members):
        member_bytes(folder, ensemble, member)


def member_bytes(folder: str | Path, ensemble: Ensemble, member: Member) -> dict[str, bytes]:
    """The files of a part by name, each read once: what was hashed is what is used.

    Raises:
        BusError: a file that is missing, too large, leads out of the folder, is a pickle, or is not the manifest's.
    """
    home = member_folder(folder, member)
    pickle = next((file for file in sorted(home.iterdir()) if file.suffix.lower() in PICKLES), None)
    if pickle is not None:
        raise BusError(
            "this is a pickle, which can run code when it is opened",
            where=pickle,
            remedy=f"delete it and keep the weights as {WEIGHTS}",
        )
    contents = {}
    for name, expected in member_files(ensemble, member).items():
        file = home / name
        _inside(file, home if member.path is None else Path(folder), name)
        if not file.is_file():
            raise BusError(f"{name} is missing", where=home, remedy=_AGAIN)
        most = _MAX_BYTES.get(name, _MAX_HEAD_BYTES)
        try:
            with open(file, "rb") as opened:
                # The size first: nothing is allocated for a file that is too large.
                size = os.fstat(opened.fileno()).st_size
                data = opened.read(size) if size <= most else b""
        except OSError as error:
            raise BusError(f"{name} cannot be read ({error.strerror})", where=home, remedy=_AGAIN) from None
        if size > most:
            raise BusError(f"{name} has {size:,} bytes, and at most {most:,} are read", where=home, remedy=_AGAIN)
        if hashlib.sha256(data).hexdigest() != expected:
            raise BusError(
                "the file is not the one that the manifest names (its SHA-256 differs)",
                where=file,
                remedy="download or export the ensemble again",
            )
        contents[name] = data
    return contents


def _inside(path: Path, root: Path, what: str) -> None:
    """Refuse a path that leads out of `root` through a link; the Hub's cache links into the blobs beside it."""
    # Unlike Path.resolve, realpath stops quietly at a loop of links.
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if not (real.is_relative_to(home) or real.is_relative_to(blobs)):
        raise BusError(f"{what} leads out of the folder", where=path, remedy="put the file itself there, not a link")
