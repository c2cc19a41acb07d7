"""A member that is trained on everything, with logits of networks that left out one source (hospital) each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bus_hf.config import EACH_SOURCE, TrainConfig
from bus_hf.errors import BusError
from bus_hf.filenames import CHECKPOINT, RUN, without
from bus_hf.files import settle
from bus_hf.training.lineage import record_of
from bus_hf.training.run import run, squares_of
from bus_hf.training.splits import Images, read_images


def train(config: TrainConfig) -> Path:
    """Train what a config asks for: one run, or a run without each source and one on everything.

    Where each source is held out in turn, OUTPUT/without_SOURCE is the run without it and OUTPUT that on everything,
    whose `out_of_fold.parquet` holds the logits of the others. The same command goes on where it was stopped.

    Returns:
        The output folder.

    Raises:
        BusError: as `run` does; or there is one source only.
    """
    if config.hold_out != EACH_SOURCE:
        return run(config)
    images = read_images(config)
    squares = squares_of(config, images.cases)
    runs = source_configs(config, images)
    for one in runs:
        if not finished(one):
            run(one, images, squares)
        if not (Path(one.output) / RUN).is_file():
            return Path(config.output)
    return run(config, images, squares, [Path(one.output) for one in runs])


def source_configs(config: TrainConfig, images: Images) -> list[TrainConfig]:
    """The config of the run without each source; BusError where there is one source only."""
    if len(images.sources) < 2:
        raise BusError(
            f"all images are of one source ({', '.join(images.sources)}), so none can be held out",
            where=" ".join(config.data),
            remedy="give data of several sources, or set hold_out to fold",
        )
    return [
        replace(
            config,
            hold_out=source,
            output=str(Path(config.output) / without(source)),
            teacher=_without(config.teacher, source),
            init_from=_without(config.init_from, source),
        )
        for source in images.sources
    ]


def finished(config: TrainConfig) -> bool:
    """Whether a run has ended, in the boxes that the config names."""
    output = Path(config.output)
    settle(output)
    record = record_of(str(output / CHECKPOINT))
    return config.resume and record is not None and record["config"].get("boxes") == config.boxes


def _without(member: str | None, source: str) -> str | None:
    """The checkpoint of the same run that left out the source, where a member's run did so in turn."""
    if member is None or Path(member).name != CHECKPOINT:
        return member
    record = record_of(member)
    if record is None or record["config"].get("hold_out") != EACH_SOURCE:
        return member
    return str(Path(member).parent / without(source) / CHECKPOINT)
