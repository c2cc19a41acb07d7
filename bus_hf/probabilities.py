"""Calibrated logits to probabilities and back."""

from __future__ import annotations

import numpy as np


def class_probabilities(logits: np.ndarray) -> np.ndarray:
    """Class probabilities (..., classes) of calibrated logits (..., K): sigmoid for K = 1, else softmax."""
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def log_odds(logits: np.ndarray, wanted: int) -> float:
    """Log-odds of the class `wanted` of calibrated logits (K,): the logit itself for K = 1."""
    if len(logits) == 1:
        return float(logits[0])
    return float(logits[wanted] - np.logaddexp.reduce(np.delete(logits, wanted)))
