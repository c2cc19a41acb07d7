"""`graph.onnx` of a member, written beside its weights and compared with the network that it is of."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from bus_hf.ensemble.graph import BATCH, CAM, ELEMENT_TYPES, INPUT, LESION, LOGITS, embed
from bus_hf.ensemble.member_config import member_config
from bus_hf.errors import BusError
from bus_hf.filenames import GRAPH, WEIGHTS
from bus_hf.inference.onnx_runtime import open_session
from bus_hf.models import class_activation, input_size, lesion_logits, load_member
from bus_hf.tensors import Stored, table, tensors

_OPSET = 20
# Largest difference of an output, as a share of its largest value, from what torch gives.
_ERROR = 1e-3


def write_graph(home: Path, lesion_head: str | None = None) -> None:
    """Write a member's network as `graph.onnx`, whose weights are the bytes of its safetensors files.

    Its input `images` is float32 (N, 3, S, S), normalised as `config.json` says; its outputs are `logits` (N, K), `cam`
    (N, K, h, w) and, of a member that finds the lesion, `lesion` (N, h', w'), probabilities. Batch norms stay as they
    are, so that every weight is one that is stored.

    Args:
        home: folder of the member.
        lesion_head: name of the file of its lesion head; None for a member that does not find the lesion.

    Raises:
        BusError: the folder is not a member, or its network cannot be written as such a graph.
    """
    files = {name: (home / name).read_bytes() for name in (WEIGHTS, *([lesion_head] if lesion_head else []))}
    head = tensors(files[lesion_head], home / lesion_head) if lesion_head else {}
    network = _Network(load_member(home), head).eval()
    size = input_size(home)
    stored = {f"backbone.{name}": (WEIGHTS, tensor) for name, tensor in table(files[WEIGHTS], home / WEIGHTS).items()}
    if lesion_head:
        heads = table(files[lesion_head], home / lesion_head)
        stored |= {f"lesion_head.{name}": (lesion_head, tensor) for name, tensor in heads.items()}
    try:
        graph = _pointing(_exported(network, size), stored)
        _compare(embed(graph, files, home), network, size, home)
    except Exception:
        # An operator that ONNX lacks, say; what is raised then has no common class.
        architecture = member_config(home).architecture
        raise BusError(
            f"{architecture} cannot be written as {GRAPH}", remedy="use the member as it is: torch runs it"
        ) from None
    (home / GRAPH).write_bytes(graph)


class _Network(nn.Module):
    """A member with all its outputs."""

    def __init__(self, backbone: Any, head: dict[str, Tensor]) -> None:
        super().__init__()
        self.backbone = backbone
        self.lesion_head = nn.ParameterDict(head)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone.forward_features(images)
        outputs = (self.backbone.forward_head(features), class_activation(self.backbone, features))
        if not self.lesion_head:
            return outputs
        return *outputs, lesion_logits(features, self.lesion_head["weight"], self.lesion_head["bias"]).sigmoid()


def _exported(network: _Network, size: int) -> onnx.ModelProto:
    """The network as ONNX whose weights are inputs, under the names that they have in it."""
    names = [LOGITS, CAM, *([LESION] if network.lesion_head else [])]
    # It takes a file too, which its annotation leaves out.
    written: Any = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter through torch.export takes up to a minute a network, and this one a second.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, size, size),),
            written,
            dynamo=False,
            opset_version=_OPSET,
            export_params=False,
            do_constant_folding=False,
            # As the network is, in eval mode, but for batch norms that would be folded into other weights.
            training=torch.onnx.TrainingMode.PRESERVE,
            input_names=[INPUT],
            output_names=names,
            dynamic_axes={name: {0: BATCH} for name in (INPUT, *names)},
        )
    return onnx.load_from_string(written.getvalue())


def _pointing(model: onnx.ModelProto, stored: dict[str, tuple[str, Stored]]) -> bytes:
    """The model with each weight an initialiser that points to its file; half floats are cast where they are used."""
    graph, casts, used = model.graph, [], {}
    weights = [value.name for value in graph.input if value.name != INPUT]
    del graph.input[1:]
    for name in weights:
        file, tensor = stored[name]
        initialiser = graph.initializer.add(
            name=name.removeprefix("backbone."),
            data_type=ELEMENT_TYPES[tensor.kind],
            dims=tensor.shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", file), ("offset", tensor.start), ("length", tensor.end - tensor.start)):
            initialiser.external_data.add(key=key, value=str(value))
        used[name] = initialiser.name
        if tensor.kind in ("F16", "BF16"):
            used[name] = f"{initialiser.name}.float"
            casts.append(helper.make_node("Cast", [initialiser.name], [used[name]], to=TensorProto.FLOAT))
    for node in graph.node:
        node.input[:] = [used.get(name, name) for name in node.input]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model.SerializeToString()


def _compare(model: bytes, network: _Network, size: int, home: Path) -> None:
    """ValueError where a model gives other outputs than its network."""
    images = np.random.default_rng(0).normal(size=(3, 3, size, size)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images))
    for output, value in zip(open_session(model, home).run(None, {INPUT: images}), expected, strict=True):
        if np.abs(output - value.numpy()).max() > _ERROR * max(1.0, float(value.abs().max())):
            raise ValueError("the graph differs")
