import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from bus_hf.config import TrainConfig
from bus_hf.labels import LABEL_SETS
from bus_hf.models import TrainingOutput
from bus_hf.training.losses import birads_loss, class_loss, class_weights, inside_loss, lesion_loss, terms


def test_binary_loss_is_log_loss():
    logits, labels = torch.tensor([[0.3], [-1.2], [2.0]]), torch.tensor([1, 0, 0])
    expected = log_loss(labels, torch.sigmoid(logits[:, 0]))
    assert float(class_loss(logits, labels, 0.0, None)) == pytest.approx(expected, abs=1e-6)


def test_many_class_loss_is_log_loss():
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 0])
    expected = log_loss(labels, torch.softmax(logits, 1).double().numpy(), labels=[0, 1, 2, 3])
    assert float(class_loss(logits, labels, 0.0, None)) == pytest.approx(expected, abs=1e-5)


def test_smoothing_moves_the_best_logit():
    labels = torch.tensor([1])
    sure, unsure = torch.tensor([[9.0]]), torch.tensor([[2.2]])
    assert class_loss(sure, labels, 0.0, None) < class_loss(unsure, labels, 0.0, None)
    assert class_loss(sure, labels, 0.2, None) > class_loss(unsure, labels, 0.2, None)


def test_weights_balance_the_classes():
    labels = torch.tensor([0, 0, 0, 1])
    assert class_weights(labels, LABEL_SETS["malignancy"]).tolist() == [3.0]
    assert class_weights(torch.tensor([0, 0, 1, 2]), LABEL_SETS["busi3"]).tolist() == pytest.approx(
        [2 / 3, 4 / 3, 4 / 3]
    )


def _square_mask():
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:16, 8:16] = 1
    return mask


def test_lesion_loss_is_least_on_the_mask():
    mask, known = _square_mask(), torch.tensor([True])
    right = torch.nn.functional.adaptive_avg_pool2d(mask[:, None], 8)[:, 0] * 20 - 10
    wrong = right.flip(1)
    assert float(lesion_loss(right, mask, known)) < 0.01
    assert float(lesion_loss(wrong, mask, known)) > 1


def test_an_unknown_mask_counts_nothing():
    lesion = torch.randn(2, 8, 8, requires_grad=True)
    mask = torch.cat([_square_mask(), torch.zeros(1, 32, 32)])
    lesion_loss(lesion, mask, torch.tensor([True, False])).backward()
    assert lesion.grad is not None
    assert lesion.grad[0].abs().sum() > 0
    assert lesion.grad[1].abs().sum() == 0


def test_a_known_empty_mask_teaches_emptiness():
    lesion = torch.zeros(1, 8, 8, requires_grad=True)
    lesion_loss(lesion, torch.zeros(1, 32, 32), torch.tensor([True])).backward()
    assert lesion.grad is not None
    assert (lesion.grad > 0).all()


def test_inside_loss_is_the_share_outside():
    mask, counts = _square_mask(), torch.tensor([True])
    cam = torch.zeros(1, 4, 4)
    cam[0, 1, 1] = 3.0
    assert float(inside_loss(cam, mask, counts)) == pytest.approx(0, abs=1e-5)
    cam[0, 3, 3] = 1.0
    cam[0, 0, 3] = -9.0
    assert float(inside_loss(cam, mask, counts)) == pytest.approx(0.25, abs=1e-5)
    assert float(inside_loss(cam, mask, torch.tensor([False]))) == 0


def test_only_malignant_images_with_a_mask_count_for_the_inside_term():
    cam = torch.zeros(3, 1, 4, 4)
    cam[:, 0, 3, 3] = 1.0
    mask = (_square_mask() * 255).to(torch.uint8).repeat(3, 1, 1)
    output = TrainingOutput(torch.zeros(3, 1), cam, torch.zeros(3, 8, 8))
    batch = {"mask": mask, "has_mask": torch.tensor([True, True, False]), "label": torch.tensor([0, 1, 1])}
    loss = terms(output, batch, LABEL_SETS["malignancy"], TrainConfig(), None)
    assert float(loss.inside) == pytest.approx(1, abs=1e-4)
    assert float(loss.total) == pytest.approx(float(loss.classes + 0.5 * loss.lesion + 0.1 * loss.inside), abs=1e-6)


def test_a_term_of_weight_zero_is_off():
    output = TrainingOutput(torch.zeros(1, 1), torch.ones(1, 1, 4, 4), torch.zeros(1, 8, 8))
    batch = {"mask": torch.full((1, 32, 32), 255), "has_mask": torch.tensor([True]), "label": torch.tensor([1])}
    loss = terms(output, batch, LABEL_SETS["malignancy"], TrainConfig(lesion_weight=0, inside_weight=0), None)
    assert float(loss.total) == pytest.approx(np.log(2), abs=1e-6)
    assert float(loss.lesion) == float(loss.inside) == 0


def test_the_class_loss_of_a_blend_is_the_blend_of_both_labels_losses():
    labels = LABEL_SETS["malignancy"]
    output = TrainingOutput(torch.tensor([[0.7], [-1.2]]), torch.ones(2, 1, 4, 4), torch.zeros(2, 8, 8))
    one = {
        "mask": torch.full((2, 32, 32), 255.0),
        "has_mask": torch.tensor([True, True]),
        "label": torch.tensor([1, 1]),
    }
    both = one | {"other": torch.tensor([0, 1]), "share": torch.tensor(0.75)}
    config = TrainConfig()
    first, second = (
        terms(output, one | {"label": label}, labels, config, None) for label in (one["label"], both["other"])
    )
    loss = terms(output, both, labels, config, None)
    assert float(loss.classes) == pytest.approx(float(0.75 * first.classes + 0.25 * second.classes), abs=1e-6)
    # Only the second draw is of two malignant images.
    assert float(loss.inside) == pytest.approx(0, abs=1e-4)


def test_the_birads_term_counts_known_categories_in_their_order():
    logits = torch.tensor([[4.0, -4.0, -4.0], [4.0, 4.0, -4.0], [0.0, 0.0, 0.0]])
    right = birads_loss(logits, torch.tensor([3, 4, 0]))
    assert float(right) == pytest.approx(float(torch.nn.functional.softplus(torch.tensor(-4.0))), abs=1e-6)
    off_by_one, off_by_two = (birads_loss(logits[:1], torch.tensor([category])) for category in (4, 5))
    assert right < off_by_one < off_by_two
    assert float(birads_loss(logits, torch.tensor([0, 0, 0]))) == 0
