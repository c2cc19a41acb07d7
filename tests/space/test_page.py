"""The page without an ensemble, and its examples."""

from pathlib import Path

import numpy as np
import pytest

from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError
from bus_hf.inference.detector import BreastCancerDetector
from bus_hf.reporting import sentences
from bus_hf.space.page import EXAMPLES, build
from bus_hf.space.shared_detector import SharedDetector

ROOT = Path(__file__).resolve().parents[2]


def test_page_opens_without_an_ensemble_and_says_so_on_reading(tmp_path):
    detector = SharedDetector(str(tmp_path / "none"))
    assert build(detector=detector) is not None
    with pytest.raises(BusError):
        detector.detector()


def test_the_example_without_a_lesion_is_not_suspicious():
    image, _ = phantom(np.random.default_rng(EXAMPLES["Without a lesion"][1]), "normal")
    result = BreastCancerDetector.from_pretrained(ROOT / "checkpoints", device="cpu").predict(image)
    assert (result.box, sentences.verdict(result)) == (None, sentences.UNSURE)
