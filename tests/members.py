"""Made logits of members, for tests that weigh them."""

import numpy as np
import pandas as pd

VIEWS = {"whole": 0.5, "lesion": 0.5}


def frame(strength, n=400, seed=0):
    """Logits of members that see a malignancy with the given strengths."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    rows = [
        {
            "name": f"i{i}",
            "source": "one" if i % 4 else "two",
            "group": f"g{i // 2}",
            "label": labels[i],
            "member": member,
            "view": view,
            "logit_0": power * (2 * labels[i] - 1) + 2 * rng.normal(),
        }
        for i in range(n)
        for member, power in strength.items()
        for view in VIEWS
    ]
    return pd.DataFrame(rows)
