"""`bus-hf audit`: copies and contradictions in a data set."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_hf.cli import shared
from bus_hf.files import replace_file
from bus_hf.text import csv_cell, printable

if TYPE_CHECKING:
    from bus_hf.data.duplicates import Audit

_EXAMPLES = """\
  bus-hf audit DATA/busi
  bus-hf audit DATA/busi DATA/busbra --csv pairs.csv --sheet pairs.png
  bus-hf audit scans/ --labels labels.csv
  bus-hf audit owner/breast-ultrasound --json
  bus-hf audit DATA/busi --no-sheet --card dataset_card/README.md"""
_NOTES = """\
Near-duplicates are images of one scan that were exported, cropped, marked or saved more than once. Training keeps them
in one fold, and excludes groups whose images contradict each other's class. The contact sheet shows the pairs side by
side, best first, for you to judge."""

_SHOWN = 20


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(
        commands, "audit", "look for copies and contradictions in a data set", _EXAMPLES, _NOTES
    )
    command.add_argument(
        "data", nargs="+", metavar="DATA", help="folder of labelled images, or Hub id; several are joined"
    )
    shared.labels_flag(command)
    command.add_argument(
        "--sheet",
        type=Path,
        default=Path("audit.png"),
        metavar="FILE",
        help="contact sheet of the pairs (default: audit.png)",
    )
    command.add_argument("--no-sheet", action="store_true", help="write no contact sheet")
    command.add_argument("--csv", type=Path, metavar="FILE", help="write every pair as a table")
    command.add_argument(
        "--card", type=Path, metavar="FILE", help="put the counts as a table between the figures markers of this file"
    )
    command.add_argument("--json", action="store_true", help="print everything as one JSON object")
    command.add_argument("--all", action="store_true", help=f"list every pair, not only the best {_SHOWN}")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Audit the joined data; 1 where images were excluded, which stderr says."""
    from bus_hf.data.duplicates import audit, contact_sheet
    from bus_hf.reporting.data_card import counts_table

    everything, incomplete = shared.load_cases(given.data, table=given.labels)
    print("comparing the images ...", file=sys.stderr)
    result = audit(everything)
    if given.csv:
        _write_pairs(result, given.csv)
    if given.card:
        shared.replace_figures(given.card, counts_table(result))
    if result.pairs and not given.no_sheet:
        names = [case.name for case in everything]
        shared.write_png(given.sheet, contact_sheet([case.image for case in everything], names, result.pairs))
    if given.json:
        print(json.dumps(_as_json(result), indent=2, ensure_ascii=False))
    else:
        print("\n".join(printable(line) for line in _report(result, len(result.pairs) if given.all else _SHOWN)))
        for path in (given.csv, given.sheet if result.pairs and not given.no_sheet else None):
            if path:
                print(f"written: {path}", file=sys.stderr)
    return 1 if incomplete else 0


def _report(result: Audit, limit: int) -> list[str]:
    from bus_hf.data.duplicates import paired_groups

    classes = list(dict.fromkeys(pathology for _, pathology in result.counts))
    sources = list(dict.fromkeys(source for source, _ in result.counts))
    lines = [f"{'source':<16}" + "".join(f"{name:>12}" for name in (*classes, "images"))]
    for source in sources:
        counts = [result.counts.get((source, name), 0) for name in classes]
        lines.append(f"{source:<16}" + "".join(f"{count:>12}" for count in (*counts, sum(counts))))
    groups = paired_groups(result)
    lines += [
        "",
        f"{len(result.names)} images in {len(set(result.groups))} groups (patients, near-duplicates)",
        f"{len(result.pairs)} near-duplicate pairs in {len(groups)} groups; {len(result.conflicts)} groups hold more "
        "than one class",
        f"{len(result.identical)} sets of images are the same to the bit",
    ]
    for group in sorted(result.conflicts):
        members = ", ".join(result.names[row] for row, other in enumerate(result.groups) if other == group)
        lines.append(f"  classes contradict each other: {members}")
    if result.pairs:
        lines += ["", "likeness  pair"]
        lines += [
            f"   {pair.score:.3f}  {result.names[pair.i]}  {result.names[pair.j]}" for pair in result.pairs[:limit]
        ]
        if len(result.pairs) > limit:
            lines.append(f"          and {len(result.pairs) - limit} more (--all lists them)")
    return lines


def _as_json(result: Audit) -> dict[str, Any]:
    from bus_hf.data.duplicates import paired_groups

    sizes = Counter(result.groups)
    return {
        "images": len(result.names),
        "groups": len(sizes),
        "counts": [
            {"source": source, "class": name, "images": count} for (source, name), count in result.counts.items()
        ],
        "pairs": [
            {"a": result.names[p.i], "b": result.names[p.j], "likeness": round(p.score, 4)} for p in result.pairs
        ],
        "near_duplicate_groups": [[result.names[row] for row in rows] for rows in paired_groups(result).values()],
        "conflicting_groups": [
            [result.names[row] for row, other in enumerate(result.groups) if other == group]
            for group in sorted(result.conflicts)
        ],
        "identical": [list(names) for names in result.identical],
    }


def _write_pairs(result: Audit, path: Path) -> None:
    try:
        with replace_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("a", "b", "likeness", "group", "classes_contradict"))
            for pair in result.pairs:
                group = result.groups[pair.i]
                row = (result.names[pair.i], result.names[pair.j], f"{pair.score:.4f}", group)
                writer.writerow(map(csv_cell, (*row, group in result.conflicts)))
    except OSError as error:
        raise shared.unwritable(path, error) from None
