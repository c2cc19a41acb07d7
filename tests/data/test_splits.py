from collections import Counter

import numpy as np
import pytest

from bus_hf.data.splits import assert_disjoint, grouped_folds, kept_folds, read_folds
from bus_hf.errors import BusError


def _data(seed=0, groups=150):
    """Groups of one to four images of two sources; a group has one source and one class."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        source, label = ("busi", "busbra")[group % 2], int(rng.random() < 0.3)
        rows += [(label, f"g{group}", source)] * int(rng.integers(1, 5))
    rows = [rows[i] for i in rng.permutation(len(rows))]
    labels, names, sources = zip(*rows, strict=True)
    return np.array(labels), np.array(names), np.array(sources)


def test_no_group_lies_in_two_folds():
    labels, groups, sources = _data()
    folds = grouped_folds(labels, groups, sources)
    assert_disjoint(folds, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in groups)


def test_without_grouping_images_leak_and_the_check_says_so():
    labels, groups, sources = _data()
    leaky = grouped_folds(labels, [f"row{i}" for i in range(len(groups))], sources)
    shared = [group for group in set(groups) if len(set(leaky[groups == group])) > 1]
    assert len(shared) > 50
    with pytest.raises(BusError, match=r"group g\d+ lies in folds \d and \d"):
        assert_disjoint(leaky, groups)


def test_one_shared_group_is_enough_for_the_check():
    with pytest.raises(BusError, match="group b lies in folds 1 and 0"):
        assert_disjoint([0, 1, 0, 1], ["a", "b", "b", "c"])
    assert_disjoint([0, 1, 1, 0], ["a", "b", "b", "c"])


def test_every_row_gets_a_fold_of_about_equal_size_and_mix():
    labels, groups, sources = _data()
    folds = grouped_folds(labels, groups, sources, k=5)
    assert folds.dtype == np.int64
    assert folds.shape == labels.shape
    assert set(folds) == set(range(5))
    counts = Counter(zip(folds.tolist(), sources, labels.tolist(), strict=True))
    for source, label in {(source, label) for _, source, label in counts}:
        share = [counts[fold, source, label] for fold in range(5)]
        assert max(share) - min(share) <= 3, (source, label, share)


def test_sources_are_balanced_only_when_they_are_strata():
    labels = np.zeros(100, int)
    groups = [f"g{i}" for i in range(100)]
    sources = ["rare" if i < 10 else "common" for i in range(100)]
    folds = grouped_folds(labels, groups, sources, k=5)
    assert Counter(folds[:10].tolist()) == dict.fromkeys(range(5), 2)


def test_equal_seeds_give_equal_folds_whatever_the_order_of_rows():
    labels, groups, sources = _data()
    folds = grouped_folds(labels, groups, sources, seed=3)
    assert (folds == grouped_folds(labels, groups, sources, seed=3)).all()
    assert (folds != grouped_folds(labels, groups, sources, seed=4)).any()
    mixed = np.random.default_rng(1).permutation(len(labels))
    assert (grouped_folds(labels[mixed], groups[mixed], sources[mixed], seed=3) == folds[mixed]).all()


@pytest.mark.parametrize(
    ("labels", "k", "sentence"),
    [
        ([0, 1, 0, 1], 1, "1 folds leave nothing"),
        ([0, 1, 0, 1], 9, "4 groups can't be assigned to 9 folds"),
        ([0, 1, 2, 3], 2, "no class of a source has 2 images"),
    ],
)
def test_impossible_folds_are_refused(labels, k, sentence):
    with pytest.raises(BusError, match=sentence):
        grouped_folds(labels, list("abcd"), ["s"] * 4, k=k)


def test_a_rare_stratum_is_assigned_without_a_warning(recwarn):
    folds = grouped_folds([0] * 10 + [1] * 2, list("abcdefghijkl"), ["s"] * 12, k=5)
    assert folds[10] != folds[11]
    assert not recwarn.list


def test_folds_that_were_assigned_are_kept_and_a_group_that_grew_lies_in_one(tmp_path):
    known = {"a": 1, "b": 2, "c": 2, "d": 0, "e": 1, "f": 0}
    names, groups = ["a", "b", "c", "d", "e", "f", "new"], ["abc", "abc", "abc", "d", "ef", "ef", "new"]
    assert kept_folds(names, groups, known).tolist() == [2, 2, 2, 0, 0, 0, -1]
    path = tmp_path / "folds.csv"
    path.write_text("name,fold\n" + "".join(f"{name},{fold}\n" for name, fold in known.items()))
    assert read_folds(path, 3) == known
    for text, sentence in (
        ("name,fold\na,0\na,1\n", "stands in it twice"),
        ("name,fold\na,0\nb,2\n", "folds are not 0 to 1"),
        ("name,fold\na,x\n", "no list of folds"),
        ("image,fold\na,0\n", "no list of folds"),
    ):
        path.write_text(text)
        with pytest.raises(BusError, match=sentence):
            read_folds(path, 2)
    with pytest.raises(BusError, match="cannot be read"):
        read_folds(tmp_path / "none.csv", 2)
