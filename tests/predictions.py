"""A prediction and an operating point for tests that show them."""

import numpy as np

from bus_hf.ensemble.manifest import OperatingPoint
from bus_hf.inference.prediction import Prediction
from bus_hf.views import Box

RESULT = Prediction(
    name="scan.png",
    prediction="Malignant",
    probability=0.731,
    logit=1.0,
    logits={"one": {"whole": 0.85}, "two": {"whole": 1.15}},
    confidence=0.731,
    uncertain=False,
    members={"one": 0.7, "two": 0.76},
    views={"whole": 0.73},
    disagreement=0.03,
    box=Box(10, 20, 30.4, 40),
    box_source="found",
    lesion_confidence=0.97,
    colour_overlay=0.0,
    operating_point="miss_5_in_100",
    threshold=0.21,
    shape=(100, 120),
    grey=np.zeros((100, 120), np.uint8),
    heatmap=np.zeros((100, 120), np.float32),
)

POINT = OperatingPoint("miss_5_in_100", 0.21, (0.95, 0.9, 0.98), (0.7, 0.6, 0.8))
