"""What the card of a data set says of its images, from an audit."""

from __future__ import annotations

from bus_hf.data.duplicates import Audit, paired_groups
from bus_hf.reporting.markdown import markdown_table


def counts_table(result: Audit) -> str:
    """Markdown table of the images by source and class, and a sentence on groups and near-duplicates."""
    classes = list(dict.fromkeys(pathology for _, pathology in result.counts))
    rows = [
        (source, *(result.counts.get((source, name), 0) for name in classes))
        for source in dict.fromkeys(source for source, _ in result.counts)
    ]
    return (
        f"{markdown_table(('source', *classes), rows)}\n\n"
        f"{len(result.names)} images in {len(set(result.groups))} groups; {len(result.pairs)} near-duplicate pairs in "
        f"{len(paired_groups(result))} groups, {len(result.conflicts)} of which contradict themselves."
    )
