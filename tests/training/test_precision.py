import pytest
import torch

from bus_hf.errors import BusError
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
    chosen, note = precision.usable(wanted, device)
    assert chosen == used
    assert (note is not None) == (wanted not in (used, "auto"))
    assert note is None or "float32" in note


@pytest.mark.parametrize(
    ("wanted", "launched", "device", "used", "sentence"),
    [
        ("auto", "bf16", CPU, "bf16", None),
        ("auto", "bf16", CUDA, "bf16", None),
        ("auto", "fp16", CUDA, "fp16", None),
        # accelerate launch says no where nobody asked, too.
        ("auto", "no", CUDA, "fp16", "give --mixed_precision no"),
        ("auto", "no", CPU, "no", None),
        ("no", "bf16", CPU, "no", "no of the settings goes before bf16"),
        ("bf16", "fp16", CUDA, "bf16", "bf16 of the settings goes before fp16"),
        ("fp16", "no", CUDA, "fp16", None),
        ("bf16", "bf16", CUDA, "bf16", None),
    ],
)
def test_settings_go_before_the_launcher_and_the_launcher_before_auto(
    monkeypatch, wanted, launched, device, used, sentence
):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    chosen, note = precision.usable(wanted, device, launched)
    assert chosen == used
    assert (note is None) == (sentence is None)
    assert sentence is None or sentence in str(note)


@pytest.mark.parametrize(("wanted", "launched"), [("auto", "fp8"), ("auto", "fp16"), ("fp16", None)])
def test_what_no_cpu_can_do_is_refused(wanted, launched):
    with pytest.raises(BusError, match=r"fp8|fp16 needs a GPU"):
        precision.usable(wanted, CPU, launched)


def test_the_cpu_is_asked():
    assert precision.cpu_has_bf16() in (True, False)
