import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import log_loss

from bus_hf.config import TrainConfig, from_mapping
from bus_hf.errors import BusError
from bus_hf.labels import LABEL_SETS
from bus_hf.models import TrainingNet, TrainingOutput, create, save_member
from bus_hf.training.batches import normalised
from bus_hf.training.distillation import feature_loss, load_teacher, soft_class_loss
from bus_hf.training.losses import terms
from bus_hf.training.run import run

MALIGNANCY = LABEL_SETS["malignancy"]


@pytest.fixture(scope="module")
def member(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teacher") / "member"
    save_member(folder, create("test_efficientnet", 1), MALIGNANCY, 64, half=False)
    return folder


def test_a_teacher_reads_what_the_member_reads(member):
    teacher = load_teacher(str(member), MALIGNANCY, torch.device("cpu"))
    images = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    logits, features = teacher(images)
    cfg = teacher.backbone.pretrained_cfg
    assert torch.allclose(logits, teacher.backbone(normalised(images, cfg["mean"], cfg["std"])), atol=1e-5)
    assert features.shape[:2] == (3, teacher.channels)
    assert not logits.requires_grad


def test_a_teacher_reads_at_its_own_size(member):
    teacher = load_teacher(str(member), MALIGNANCY, torch.device("cpu"))
    images = torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8)
    logits, _ = teacher(images)
    doubled, features = teacher(images.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert features.shape == teacher(images)[1].shape
    # Halved again, each pixel is the mean of its neighbours' copies: nearly the same picture.
    assert float((doubled - logits).abs().max()) < 0.3 * float(logits.abs().max()) + 0.05


def test_a_teacher_of_other_classes_is_refused(member):
    with pytest.raises(BusError, match="1 outputs where 'busi3' has 3"):
        load_teacher(str(member), LABEL_SETS["busi3"], torch.device("cpu"))


def test_soft_loss_is_log_loss_against_the_teachers_probabilities():
    logits, teacher_logits = torch.randn(5, 1), torch.randn(5, 1)
    target = torch.sigmoid(teacher_logits[:, 0]).double().numpy()
    probability = torch.sigmoid(logits[:, 0]).double().numpy()
    expected = -np.mean(target * np.log(probability) + (1 - target) * np.log(1 - probability))
    assert float(soft_class_loss(logits, teacher_logits)) == pytest.approx(expected, abs=1e-5)
    sure = torch.eye(3) * 200
    labels, spread = [0, 1, 2], torch.randn(3, 3)
    expected = log_loss(labels, torch.softmax(spread.double(), 1).numpy(), labels=labels)
    assert float(soft_class_loss(spread, sure)) == pytest.approx(expected, abs=1e-5)


def test_feature_loss_is_one_minus_correlation():
    target = torch.randn(2, 6, 3, 3)
    assert float(feature_loss(target * 3 + 5, target)) == pytest.approx(0, abs=1e-5)
    assert float(feature_loss(-target, target)) == pytest.approx(2, abs=1e-5)
    one, other = torch.randn(1, 6, 1, 1), torch.randn(1, 6, 1, 1)
    expected = 1 - np.corrcoef(one.flatten(), other.flatten())[0, 1]
    assert float(feature_loss(one, other)) == pytest.approx(expected, abs=1e-5)
    # A finer map of the teacher is brought to the student's places.
    fine = target.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert float(feature_loss(target, fine)) == pytest.approx(0, abs=1e-5)


def test_the_teachers_share_replaces_that_of_the_labels():
    config = TrainConfig(teacher="x", teacher_weight=0.75, feature_weight=2, lesion_weight=0, inside_weight=0)
    output = TrainingOutput(torch.zeros(2, 1), torch.zeros(2, 1, 2, 2), torch.zeros(2, 8, 8), torch.randn(2, 4, 2, 2))
    batch = {
        "mask": torch.zeros(2, 32, 32, dtype=torch.uint8),
        "has_mask": torch.tensor([False, False]),
        "label": torch.tensor([0, 1]),
    }
    target = torch.full((2, 1), 2.0), torch.randn(2, 4, 2, 2)
    loss = terms(output, batch, MALIGNANCY, config, None, target)
    soft, features = soft_class_loss(output.logits, target[0]), feature_loss(output.matched, target[1])
    assert float(loss.total) == pytest.approx(float(0.25 * loss.classes + 0.75 * soft + 2 * features), abs=1e-6)


def test_the_match_brings_features_into_the_teachers_channels():
    net = TrainingNet(create("test_resnet", 1), 8, teacher_channels=7)
    assert net(torch.zeros(1, 3, 64, 64)).matched.shape[:2] == (1, 7)
    assert TrainingNet(create("test_resnet", 1))(torch.zeros(1, 3, 64, 64)).matched is None


def test_a_distilled_run_learns_from_its_teacher_and_ships_nothing_of_it(tiny, member):
    output = run(replace(tiny, teacher=str(member), teacher_weight=1.0, feature_weight=1.0, epochs=2))
    history = json.loads((output / "history.json").read_text())
    assert 0 < history[1]["loss_distillation"] < history[0]["loss_distillation"]
    plain = create("test_resnet", 1).state_dict()
    assert set(load_file(output / "checkpoint" / "model.safetensors")) == set(plain)
    assert json.loads((output / "run.json").read_text())["config"]["teacher"] == str(member)


def test_teacher_and_weights_go_together():
    with pytest.raises(BusError, match="do not go together"):
        from_mapping({"teacher": "x"}, "here")
    with pytest.raises(BusError, match="do not go together"):
        from_mapping({"feature_weight": 1.0}, "here")
