from dataclasses import replace

import pytest
from accelerate.state import AcceleratorState

from bus_hf.config import TrainConfig
from bus_hf.data.phantoms import write_phantoms
from bus_hf.training.run import run


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantoms(folder, 12, 0)
    return folder


@pytest.fixture
def tiny(phantom_folder, tmp_path):
    """Settings of a run of three epochs on 36 phantoms."""
    return settings(phantom_folder, tmp_path)


@pytest.fixture(scope="session")
def finished_tiny(phantom_folder, tmp_path_factory):
    """Output folder of the uninterrupted run of `tiny`, with a tracker; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    output = run(replace(settings(phantom_folder, folder), trackers=("tensorboard",)))
    AcceleratorState._reset_state(reset_partial_state=True)
    return output


def settings(data, folder):
    return TrainConfig(
        data=(str(data),),
        output=str(folder / "run"),
        logging_dir=str(folder / "logs"),
        backbone="test_resnet",
        init="random",
        input_size=64,
        epochs=3,
        batch_size=8,
        folds=3,
        drop_rate=0.2,
        drop_path_rate=0.0,
        num_workers=0,
        trackers=(),
    )


@pytest.fixture(autouse=True)
def without_drawing(blank_plots):
    with blank_plots():
        yield


@pytest.fixture(autouse=True)
def reset_accelerate():
    # accelerate keeps its precision for the life of a process, where one training run is the rule.
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
