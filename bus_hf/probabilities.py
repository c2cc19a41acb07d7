"""Calibrated logits to probabilities and back; what is not finite is an error, never an answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from bus_hf.errors import BusError


def check_finite(what: str, *values: np.ndarray) -> None:
    """BusError where a number is NaN or infinite: no answer can be made of it."""
    if not all(np.isfinite(array).all() for array in values):
        raise BusError(f"{what} is not a finite number", where="the ensemble", remedy="download or assemble it again")


def class_probabilities(logits: np.ndarray) -> np.ndarray:
    """Class probabilities (..., classes) of calibrated logits (..., K): sigmoid for K = 1, else softmax."""
    check_finite("a calibrated logit", logits)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    return softmax(logits)


def log_odds(logits: np.ndarray, wanted: int) -> float:
    """Log-odds of the class `wanted` of calibrated logits (K,): the logit itself for K = 1."""
    check_finite("a calibrated logit", logits)
    if len(logits) == 1:
        return float(logits[0])
    return float(logits[wanted] - np.logaddexp.reduce(np.delete(logits, wanted)))


def sigmoid(logits: np.ndarray | float) -> Any:
    """Probabilities of logits of any shape; no logit overflows."""
    return np.exp(-np.logaddexp(0, -logits))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (..., K) of logits (..., K); no logit overflows."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)
