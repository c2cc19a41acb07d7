import pytest
from accelerate.state import AcceleratorState

from bus_hf.config import TrainConfig
from bus_hf.data.phantoms import write_phantoms


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantoms(folder, 12, 0)
    return folder


@pytest.fixture
def tiny(phantom_folder, tmp_path):
    return TrainConfig(
        data=(str(phantom_folder),),
        output=str(tmp_path / "run"),
        logging_dir=str(tmp_path / "logs"),
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
def fresh_accelerate():
    # accelerate keeps its precision for the life of a process, where one training run is the rule.
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
