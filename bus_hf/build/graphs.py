"""`graph.onnx` of an ensemble's members, from which they run on a CPU without torch."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from bus_hf.ensemble.folder import read_manifest, sha256, verify, write_manifest
from bus_hf.ensemble.manifest import Member
from bus_hf.errors import BusError
from bus_hf.filenames import GRAPH
from bus_hf.files import replace_folder


def write(home: Path, lesion_head: str | None = None) -> None:
    """Write the graph of the member in `home`; where its network has none, stderr says so and an old graph goes.

    `lesion_head` is the file of its lesion head, where it finds the lesion of its ensemble.
    """
    from bus_hf.inference.export import write_graph

    (home / GRAPH).unlink(missing_ok=True)
    try:
        write_graph(home, lesion_head)
    except BusError as error:
        print(f"bus-hf: {error}", file=sys.stderr)


def add(folder: Path) -> dict[str, int]:
    """Write the graph of every member that lies in an ensemble folder, and their hashes into its manifest.

    Returns:
        The bytes of each graph, by member.

    Raises:
        BusError: no ensemble, a file that is not the manifest's, or a folder that cannot be written.
    """
    manifest = read_manifest(folder)
    verify(folder, manifest)
    lesion_map, sizes = manifest.lesion_map, {}

    def with_graph(member: Member, part: Path) -> Member:
        if member.path is None:
            return member
        graph = part / member.path / GRAPH
        write(graph.parent, lesion_map.file if member.name == lesion_map.member else None)
        if not graph.is_file():
            return dataclasses.replace(member, graph_sha256=None)
        sizes[member.name] = graph.stat().st_size
        return dataclasses.replace(member, graph_sha256=sha256(graph))

    try:
        with replace_folder(folder, keep=True) as part:
            members = tuple(with_graph(member, part) for member in manifest.members)
            classifier = manifest.lesion_type
            if classifier is not None:
                classifier = dataclasses.replace(classifier, member=with_graph(classifier.member, part))
            write_manifest(dataclasses.replace(manifest, members=members, lesion_type=classifier), part)
    except OSError as error:
        raise BusError(
            f"it cannot be written ({error.strerror})", where=folder, remedy="make room, or let it be written to"
        ) from None
    return sizes
