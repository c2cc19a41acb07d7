import pytest
import torch

from bus_hf.training import precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("wanted", "device", "has", "used"),
    [
        ("auto", CPU, True, "no"),
        ("auto", CUDA, False, "fp16"),
        ("bf16", CPU, True, "bf16"),
        ("bf16", CPU, False, "no"),
        ("bf16", CUDA, False, "bf16"),
        ("fp16", CUDA, False, "fp16"),
        ("no", CPU, True, "no"),
    ],
)
def test_bfloat16_gives_way_on_a_cpu_without_it_and_says_so(monkeypatch, wanted, device, has, used):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: has)
    found, note = precision.usable(wanted, device)
    assert found == used
    assert (note is not None) == (wanted not in (used, "auto"))
    assert note is None or "float32" in note


def test_the_cpu_is_asked():
    assert precision.cpu_has_bf16() in (True, False)
