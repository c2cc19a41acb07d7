"""A graph gets its weights from the safetensors files beside it, and nothing from anywhere else."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bus_hf.ensemble.graph import embed
from bus_hf.errors import BusError

HOME = Path("member")
WEIGHTS: dict[str, np.ndarray] = {
    "a": np.arange(6, dtype=np.float16).reshape(2, 3),
    "b": np.array([0.5, -1.5, 2.5], np.float32),
    "c": np.zeros((3, 2), np.float16),
}
KINDS = {"float16": "F16", "float32": "F32"}


def safetensors(tensors):
    entries, body = {}, b""
    for name, value in tensors.items():
        data = value.tobytes()
        entry = {"dtype": KINDS[value.dtype.name], "shape": value.shape}
        entries[name] = entry | {"data_offsets": [len(body), len(body) + len(data)]}
        body += data
    head = json.dumps(entries).encode()
    return len(head).to_bytes(8, "little") + head + body


FILE = safetensors(WEIGHTS)
FIRST = len(FILE) - sum(value.nbytes for value in WEIGHTS.values())


def pointer(name, offset, length, dims, kind, location="model.safetensors", **more):
    tensor = TensorProto(name=name, data_type=kind, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": location, "offset": offset, "length": length} | more).items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model(first=None, nodes=(), opsets=(("", 20),)):
    """images @ a + b, as a graph; `first` takes the place of the initialiser a."""
    a = first or pointer("a", FIRST, 12, [2, 3], TensorProto.FLOAT16)
    b = pointer("b", FIRST + 12, 12, [3], TensorProto.FLOAT)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["a"], ["a.float"], to=TensorProto.FLOAT),
            helper.make_node("Gemm", ["images", "a.float", "b"], ["logits"]),
            *nodes,
        ],
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [a, b],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets], ir_version=9)


def embedded(made):
    return embed(made if isinstance(made, bytes) else made.SerializeToString(), {"model.safetensors": FILE}, HOME)


def test_each_initialiser_gets_the_bytes_of_its_tensor_and_the_rest_stays():
    made, loaded = model(), onnx.load_from_string(embedded(model()))
    onnx.checker.check_model(loaded, full_check=True)
    for initialiser in loaded.graph.initializer:
        assert (onnx.numpy_helper.to_array(initialiser) == WEIGHTS[initialiser.name]).all()
        assert not initialiser.external_data
    for one in (made, loaded):
        del one.graph.initializer[:]
    assert made == loaded


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        (("../model.safetensors",), "points to '../model.safetensors', which is none of model.safetensors"),
        (("/etc/passwd",), "points to '/etc/passwd'"),
        (("config.json",), "points to 'config.json'"),
        (("model.safetensors", 0), "points to bytes that are no tensor of model.safetensors ('a')"),
        (("model.safetensors", FIRST + 2), "points to bytes that are no tensor of model.safetensors"),
        (("model.safetensors", FIRST, 24), "points to bytes that are no tensor of model.safetensors"),
        (("model.safetensors", FIRST, 10**30), "points to bytes that are no tensor of model.safetensors"),
        (("model.safetensors", -12), "points to bytes that are no tensor of model.safetensors"),
        (("model.safetensors", FIRST + 24), "takes 'a' for another type or shape"),
        (("model.safetensors", FIRST, 12, [3, 2]), "takes 'a' for another type or shape"),
        (("model.safetensors", FIRST, 12, [2, 3], TensorProto.BFLOAT16), "takes 'a' for another type or shape"),
    ],
)
def test_an_initialiser_that_is_no_tensor_of_the_file_is_refused(first, sentence):
    usual = ("", FIRST, 12, [2, 3], TensorProto.FLOAT16)
    location, offset, length, dims, kind = first + usual[len(first) :]
    with pytest.raises(BusError, match=re.escape(f"member: graph.onnx {sentence}")):
        embedded(model(pointer("a", offset, length, dims, kind, location)))


@pytest.mark.parametrize(
    "first",
    [
        onnx.numpy_helper.from_array(WEIGHTS["a"], "a"),
        pointer("a", FIRST, 12, [2, 3], TensorProto.FLOAT16, basepath="/"),
        TensorProto(name="a", data_type=10, dims=[2, 3], data_location=TensorProto.EXTERNAL),
    ],
    ids=["inline", "another key", "nowhere"],
)
def test_an_initialiser_that_does_not_say_where_it_lies_is_refused(first):
    with pytest.raises(BusError, match=r"graph.onnx (holds what is not read|does not say where 'a' lies)"):
        embedded(model(first))


def constant(tensor):
    return helper.make_node("Constant", [], ["unused"], value=tensor)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"opsets": [("", 99)]}, "is of operator set 99, and 17 to 21 of ONNX are read"),
        ({"opsets": [("", 20), ("com.microsoft", 1)]}, "is of operator set com.microsoft1"),
        ({"nodes": [helper.make_node("Gelu", ["logits"], ["x"], domain="com.microsoft")]}, "'com.microsoft'"),
        ({"nodes": [helper.make_node("If", ["x"], ["y"], then_branch=model().graph)]}, "field 6 of AttributeProto"),
        ({"nodes": [constant(pointer("x", 0, 4, [1], 1, "/etc/passwd"))]}, "field 13 of constant"),
    ],
    ids=["opset", "further opset", "operator", "subgraph", "constant elsewhere"],
)
def test_what_is_not_of_onnx_itself_or_leads_elsewhere_is_refused(changes, sentence):
    with pytest.raises(BusError, match=re.escape(sentence)):
        embedded(model(**changes))


def test_functions_are_refused():
    made = model()
    made.functions.add(name="f", domain="mine")
    with pytest.raises(BusError, match="field 25 of ModelProto"):
        embedded(made)


def test_a_graph_that_is_cut_off_is_refused_at_every_byte():
    whole = model().SerializeToString()
    for end in range(len(whole)):
        with pytest.raises(BusError, match=r"^member: graph.onnx (is damaged|does not say)"):
            embedded(whole[:end])


def test_a_changed_byte_never_ends_in_another_error():
    whole, refused = model().SerializeToString(), 0
    for place in range(len(whole)):
        for flipped in (whole[place] ^ 1, whole[place] ^ 0x80, 0xFF):
            try:
                embedded(whole[:place] + bytes([flipped]) + whole[place + 1 :])
            except BusError:
                refused += 1
    # What is left are names and attributes, which the manifest's hash covers.
    assert refused > len(whole)


def test_weights_that_are_not_finite_are_refused():
    file = safetensors(WEIGHTS | {"b": np.array([0, np.nan, 1], np.float32)})
    with pytest.raises(BusError, match=r"a number in model\.safetensors is not finite"):
        embed(model().SerializeToString(), {"model.safetensors": file}, HOME)
    file = safetensors(WEIGHTS | {"c": np.full((3, 2), -np.inf, np.float16)})
    with pytest.raises(BusError, match=r"a number in model\.safetensors is not finite"):
        embed(model().SerializeToString(), {"model.safetensors": file}, HOME)


def test_a_file_with_a_gap_or_an_overlap_is_refused():
    start = FILE.index(b'"data_offsets": [12, 24]')
    moved = FILE[:start] + b'"data_offsets": [11, 23]' + FILE[start + 24 :]
    with pytest.raises(BusError, match=r"model\.safetensors is damaged \(its tensors do not fit its size\)"):
        embed(model().SerializeToString(), {"model.safetensors": moved}, HOME)
