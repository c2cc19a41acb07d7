"""The ONNX runtime: members on a CPU from their graphs, in float32, without torch."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from bus_hf.ensemble.graph import AGAIN, BATCH, CAM, INPUT, LESION, LOGITS, embed
from bus_hf.ensemble.manifest import Ensemble
from bus_hf.ensemble.member_config import MemberConfig
from bus_hf.errors import BusError
from bus_hf.filenames import GRAPH
from bus_hf.inference.cores import cores
from bus_hf.inference.runtime import Outputs, Part, check_squares, read_parts

_WEIGHTS = ".safetensors"


def open_session(model: bytes, home: Path, batch: int | None = None) -> onnxruntime.InferenceSession:
    """Load a model on one thread: squares run side by side, which takes less than several threads for each of them.

    Args:
        model: ONNX with its weights in it.
        home: the folder that errors name.
        batch: images in every call, where that is known: shapes are then computed once; None for any number.

    Raises:
        BusError: it cannot be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if batch is not None:
        options.add_free_dimension_override_by_name(BATCH, batch)
    # Its arena would keep what the largest of all networks took.
    options.enable_cpu_mem_arena = False
    # Errors alone; it warns of what it optimises.
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:
        # What it raises has no common class.
        raise BusError(f"{GRAPH} cannot be loaded", where=home, remedy=AGAIN) from None
    # It would keep the model, to load it again for another device: a third of all memory.
    session._model_bytes = None
    return session


@dataclass(frozen=True)
class _Loaded:
    session: onnxruntime.InferenceSession
    config: MemberConfig
    home: Path
    outputs: tuple[str, ...]

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """Logits (1, K), maps (1, K, h, w) and, where there is one, the lesion map (1, h', w') of a square (S, S)."""
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.config.mean, self.config.std))
        pixels = (image.astype(np.float32) / 255 - mean) / std
        try:
            outputs = self.session.run(self.outputs, {INPUT: pixels[None]})
        except Exception:
            # What it raises has no common class.
            raise self.wrong() from None
        dimensions = {LOGITS: 2, CAM: 4, LESION: 3}
        for name, values in zip(self.outputs, outputs, strict=True):
            classes = values.shape[1:2] == (self.config.num_logits,) or name == LESION
            if values.ndim != dimensions[name] or len(values) != 1 or not classes or values.dtype != np.float32:
                raise self.wrong()
        return outputs

    def wrong(self) -> BusError:
        """That the graph does not take or give what the member's configuration says."""
        return BusError(f"{GRAPH} is not of the network that config.json describes", where=self.home, remedy=AGAIN)


class OnnxRuntime:
    """Members of an ensemble, loaded once; safe to call from several threads, and after a fork.

    Args:
        folder: the ensemble folder.
        ensemble: its manifest; every needed part has a graph.
        members: names as in `folder.choose_members`; the owner of the lesion map is always loaded.

    Raises:
        BusError: a member that cannot be loaded.
    """

    device = "cpu"
    side_by_side = True

    def __init__(self, folder: str | Path, ensemble: Ensemble, *, members: Sequence[str] | None = None) -> None:
        self._members: dict[str, _Loaded] = {}
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        for part in read_parts(folder, ensemble, members):
            self._members[part.name] = _load(part, part.name == ensemble.lesion_map.member)
            _release()

    def input_size(self, member: str) -> int:
        """Side in pixels of the squares that `member` takes."""
        return self._members[member].config.input_size

    def __call__(self, member: str, images: np.ndarray) -> Outputs:
        """Run `member` on uint8 grey squares (N, S, S), S its input size."""
        loaded = self._members[member]
        check_squares(member, images, loaded.config.input_size)
        columns = [np.concatenate(column) for column in zip(*self._workers().map(loaded, images), strict=True)]
        return Outputs(columns[0], columns[1], columns[2] if len(columns) > 2 else None)

    def _workers(self) -> ThreadPoolExecutor:
        """The threads of this process: a forked child has none of its parent's."""
        process = os.getpid()
        if self._pool is None or self._pool[0] != process:
            self._pool = process, ThreadPoolExecutor(cores(), thread_name_prefix="bus_hf")
        return self._pool[1]


def _load(part: Part, finds_lesion: bool) -> _Loaded:
    graph, weights = part.files[GRAPH], {name: data for name, data in part.files.items() if name.endswith(_WEIGHTS)}
    model = embed(graph, weights, part.home)
    # They are in the model now, and a network takes several times its size while it is loaded.
    for files in (part.files, weights):
        files.clear()
    session = open_session(model, part.home, batch=1)
    loaded = _Loaded(session, part.config, part.home, (LOGITS, CAM, *([LESION] if finds_lesion else [])))
    if not {*loaded.outputs} <= {output.name for output in session.get_outputs()}:
        raise loaded.wrong()
    return loaded


def _release() -> None:
    """Give back to the system what loading has freed: several times a member's size, which glibc would keep."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
