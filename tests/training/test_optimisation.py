import math
from dataclasses import replace

import pytest
import torch

from bus_hf.config import TrainConfig
from bus_hf.errors import BusError
from bus_hf.models import TrainingNet, create
from bus_hf.training.optimisation import check_smallest_batch, parameter_groups, schedule, set_training


@pytest.fixture
def net():
    return TrainingNet(create("test_resnet", 1))


def test_frozen_parts_get_no_group_and_keep_their_statistics(net):
    config = TrainConfig(backbone="test_resnet", freeze=("layer1",))
    groups = parameter_groups(net, config)
    trained = {id(p) for group in groups for p in group["params"]}
    frozen = [p for name, p in net.backbone.named_parameters() if name.startswith("layer1.")]
    assert frozen
    assert not trained & {id(p) for p in frozen}
    set_training(net, net.backbone, config.freeze)
    before = {name: value.clone() for name, value in net.backbone.layer1.state_dict().items()}
    net(torch.randn(4, 3, 64, 64)).logits.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in net.backbone.layer1.state_dict().items())
    assert net.backbone.layer2.training


def test_a_batch_of_one_in_each_process_is_said(net):
    config = TrainConfig(backbone="test_resnet", batch_size=2, input_size=32)
    with pytest.raises(BusError, match="a batch of 1 image in each process at 32 pixels") as refused:
        check_smallest_batch(net, config, draws=24, processes=2)
    assert "give --batch_size 4 or more" in str(refused.value)
    check_smallest_batch(net, replace(config, batch_size=4), draws=24, processes=2)


def test_slow_parts_learn_at_a_share_of_the_rate(net):
    groups = parameter_groups(net, TrainConfig(backbone="test_resnet", slow=("layer2",), slow_scale=0.25, lr=0.4))
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in net.backbone.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.1 if name.startswith("layer2.") else 0.4)


def test_norms_and_biases_do_not_decay(net):
    for group in parameter_groups(net, TrainConfig(backbone="test_resnet", weight_decay=0.3)):
        assert group["weight_decay"] == (0.3 if group["params"][0].ndim > 1 else 0.0)


def test_prefix_that_fits_nothing_is_refused(net):
    with pytest.raises(BusError, match="starts with 'layer9'"):
        parameter_groups(net, TrainConfig(backbone="test_resnet", freeze=("layer9",)))


def test_schedule_warms_up_and_falls_like_a_cosine():
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimiser, TrainConfig(epochs=5, warmup_epochs=1), steps=10)
    rates = []
    for _ in range(50):
        rates.append(scheduler.get_last_lr()[0])
        optimiser.step()
        scheduler.step()
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == pytest.approx(1.0)
    assert rates[30] == pytest.approx(0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rates[-1] < 0.02
