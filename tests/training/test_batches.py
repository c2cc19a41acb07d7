from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from bus_hf.data.dataset import Case
from bus_hf.training.augmentation import TrainTransform
from bus_hf.training.batches import DrawSampler, TrainingImages, WholeImages, mixup, normalised
from bus_hf.training.grey_exchange import GreyExchange
from bus_hf.training.squares import DrawnSquares


def case(n, label, shape=(40, 60)):
    image = np.random.default_rng(n).integers(1, 255, shape).astype(np.uint8)
    mask = np.zeros(shape, bool)
    mask[10:20, 10:30] = True
    return Case(f"s/{n}", f"g{n}", "s", label, image, mask if n % 2 else None, None, None, None, None, "benign")


def test_balanced_draws_bring_every_class_equally_often():
    labels = [0] * 90 + [1] * 10
    drawn = [labels[index] for _, _, index in DrawSampler(labels, len(labels), seed=0)]
    assert len(drawn) == 100
    assert 30 < sum(drawn) < 70
    plain = sorted(index for _, _, index in DrawSampler(None, len(labels), seed=0))
    assert plain == list(range(100))


def test_balanced_draws_bring_every_source_and_class_of_it_equally_often():
    strata = [("large", 0)] * 160 + [("large", 1)] * 20 + [("small", 0)] * 10 + [("small", 1)] * 10
    drawn = Counter(strata[index] for _, _, index in DrawSampler(strata, 200, seed=0, length=4000))
    assert all(800 < drawn[stratum] < 1200 for stratum in set(strata))


def test_draws_depend_on_seed_and_epoch_alone():
    sampler, twin = DrawSampler([0, 1] * 20, 40, 1), DrawSampler([0, 1] * 20, 40, 1)
    list(sampler)
    sampler.epoch = twin.epoch = 3
    assert list(sampler) == list(twin)
    twin.epoch = 4
    assert [draw[2] for draw in sampler] != [draw[2] for draw in twin]


def test_the_same_draw_is_the_same_square_in_any_worker():
    cases = [case(n, n % 2) for n in range(4)]
    one, other = (TrainingImages(cases, DrawnSquares(TrainTransform(32)), seed=0) for _ in range(2))
    for place in range(3):
        one[0, place, 0]
    assert torch.equal(one[2, 5, 1]["image"], other[2, 5, 1]["image"])
    assert not torch.equal(one[2, 5, 1]["image"], other[3, 5, 1]["image"])
    assert bool(one[0, 0, 1]["has_mask"])
    assert not bool(one[0, 0, 2]["has_mask"])


def test_an_item_has_the_birads_category_and_the_grey_values_of_another_source():
    here, there = case(1, 0), replace(case(2, 1), source="t", birads="4a")
    plain, exchanged = (
        TrainingImages([here, there], DrawnSquares(TrainTransform(32, 0.0)), 0, exchange)
        for exchange in (None, GreyExchange([here, there], 1.0))
    )
    assert [int(plain[0, 0, index]["birads"]) for index in (0, 1)] == [0, 4]
    assert not torch.equal(plain[0, 0, 0]["image"], exchanged[0, 0, 0]["image"])
    assert torch.equal(plain[0, 0, 0]["mask"], exchanged[0, 0, 0]["mask"])


def test_whole_images_are_letterboxed():
    item = WholeImages([case(1, 0)], 60)[0]
    assert item["image"].shape == (60, 60)
    assert not item["image"][:10].any()
    assert item["image"][10:50].any()


def test_normalised_repeats_grey_with_the_members_mean_and_std():
    out = normalised(torch.full((2, 4, 4), 255, dtype=torch.uint8), (0.5, 0.4, 0.3), (0.5, 0.2, 0.1))
    assert out.shape == (2, 3, 4, 4)
    assert out[0, :, 0, 0].tolist() == pytest.approx([1.0, 3.0, 7.0], abs=1e-5)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("length", [3, 25])
def test_a_pass_may_be_shorter_or_longer_than_the_images(balanced, length):
    sampler = DrawSampler([0, 1] * 5 if balanced else None, 10, 0, length)
    drawn = [index for _, _, index in sampler]
    assert len(drawn) == len(sampler) == length
    if not balanced:
        assert max(drawn.count(index) for index in range(10)) - min(drawn.count(index) for index in range(10)) <= 1


def test_mixup_blends_images_masks_and_labels_alike():
    torch.manual_seed(0)
    images = (torch.arange(4, dtype=torch.uint8) * 60).view(4, 1, 1).repeat(1, 2, 2)
    batch = {
        "image": images,
        "mask": images,
        "has_mask": torch.tensor([True, True, True, False]),
        "label": torch.tensor([0, 1, 2, 3]),
    }
    out = mixup(batch, 0.4)
    share = float(out["share"])
    assert 0.5 <= share <= 1
    expected = 60 * (share * out["label"] + (1 - share) * out["other"])
    assert torch.allclose(out["image"][:, 0, 0], expected, atol=1e-3)
    assert torch.equal(out["image"], out["mask"])
    assert out["has_mask"].tolist() == [bool(a < 3 and b < 3) for a, b in zip(out["label"], out["other"], strict=True)]
    assert sorted(out["other"].tolist()) == [0, 1, 2, 3]
