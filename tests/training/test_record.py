"""Pictures that a finished run leaves."""

import numpy as np
import pandas as pd

from bus_hf.filenames import HISTORY, LOGITS, RUN
from bus_hf.labels import label_set
from bus_hf.reporting import plots
from bus_hf.training import record
from bus_hf.views import VIEW_WEIGHTS


def held_out(logits):
    """One row an image and view of cases of alternating labels; `logits` (n, K) are those of every view."""
    return pd.DataFrame(
        {"name": f"a/{row}", "group": f"a/{row}", "label": row % 2, "member": "m", "view": view}
        | {f"logit_{k}": value for k, value in enumerate(values)}
        for row, values in enumerate(logits)
        for view in VIEW_WEIGHTS
    )


def test_the_confusion_matrix_of_a_run_says_that_it_is_at_one_half(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(plots, "roc_curve", lambda *arguments: None)
    monkeypatch.setattr(plots, "training_history", lambda *arguments: None)
    monkeypatch.setattr(
        plots, "draw_counts", lambda path, counts, classes, title, size: drawn.update(counts=counts, title=title)
    )
    logits = np.array([-1.0, 0.1, 0.2, -0.3])[:, None]
    record.write_run(held_out(logits), label_set("malignancy"), {"fold": 0}, [], tmp_path)
    assert drawn["title"] == "At a probability of 0.500"
    assert drawn["counts"].tolist() == [[1, 1], [1, 1]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((HISTORY, LOGITS, RUN))
