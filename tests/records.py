"""A whole record of a finished run, for tests that write one themselves."""


def run_record(**changes):
    """What `run.json` holds, JSON-ready, with `changes` in place."""
    return {
        "architecture": "test_resnet",
        "label_set": "malignancy",
        "input_size": 64,
        "start": {"kind": "random", "source": "random", "licence": "none needed", "taken": 0, "fresh": 9},
        "epochs": 1,
        "kept": "last epoch, averaged weights",
        "fold": 0,
        "folds": 2,
        "n_train": 80,
        "n_held_out": 80,
        "n_left_out": 0,
        "near_duplicate_pairs": 0,
        "sources": {"busbra": 80},
        "seconds": 1,
        "config": {},
    } | changes
