"""Rules for the weights of members that trials compare with the one that ships (`bus_hf.evaluation.weighting`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from bus_hf.evaluation import weighting
from bus_hf.evaluation.weighting import HeldOutLogits, Weights
from bus_hf.probabilities import softmax

# Powers of d' and strengths of shrinkage that are tried.
POWERS = (1.0, 2.0, 4.0, 8.0)
SHRINKAGES = (2.0, 0.5, 0.1, 0.02, 0.0)

Rule = Callable[[HeldOutLogits], Weights]


def rules(default_views: Mapping[str, float]) -> dict[str, Rule]:
    """Every rule that is tried, by name; equal weights first."""
    return {
        "equal weights": partial(weighting.equal, default_views=default_views),
        **{
            f"by d', power {power:g}": partial(weighting.by_dprime, default_views=default_views, power=power)
            for power in POWERS
        },
        **{
            f"fitted together, shrinkage {shrinkage:g}": partial(
                joint, default_views=default_views, shrinkage=shrinkage
            )
            for shrinkage in SHRINKAGES
        },
    }


def joint(held_out: HeldOutLogits, default_views: Mapping[str, float], shrinkage: float) -> Weights:
    """Weights of members and of views that minimise the log loss together, every source counted alike.

    A mean of logits with weights >= 0 that sum to 1 (logarithmic opinion pool: C. Genest, J. Zidek, Statistical
    Science 1986), its temperature fitted beside them; `shrinkage` times the Kullback-Leibler distance from equal
    weights and from `default_views` is added, in nats of log loss an image.

    Args:
        held_out: logits and labels.
        default_views: weight of each view to shrink towards, above 0.
        shrinkage: 0 for the plain minimum.

    Returns:
        Weight of each member and of each view, each summing to 1.
    """
    from scipy.optimize import minimize

    balance = weighting.source_balance(held_out.sources)
    count = len(held_out.members)
    prior = weighting.view_prior(held_out.views, default_views)

    def weights(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return softmax(free[:count]), softmax(free[count:-1] + np.log(prior))

    def loss(free: np.ndarray) -> float:
        members, views = weights(free)
        pooled = np.einsum("nmv,m,v->n", held_out.logits, members, views) / np.exp(free[-1])
        distance = (members * np.log(members * count)).sum() + (views * np.log(views / prior)).sum()
        return float(weighting.log_loss(held_out.y_true, pooled, balance) + shrinkage * distance)

    # Bounds keep exp() finite; a weight of e-12 is none.
    start = np.zeros(count + len(prior) + 1)
    bounds = [(-12.0, 12.0)] * (len(start) - 1) + [(-3.0, 3.0)]
    members, views = weights(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x)
    return weighting.rounded(held_out.members, members), weighting.rounded(held_out.views, views)
