"""A run that diverges stops with a sentence, and nothing that is not finite is ever written."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

import train_accelerate
from bus_hf.config import to_mapping
from bus_hf.errors import BusError
from bus_hf.labels import LABEL_SETS
from bus_hf.models import TrainingNet, create, load_member, save_member
from bus_hf.training import fit
from bus_hf.training.distillation import load_teacher
from bus_hf.training.held_out import NetworkRuntime, held_out_logits
from bus_hf.training.pretrained import start
from bus_hf.training.run import run
from bus_hf.training.splits import split


def weights(folder):
    return load_file(Path(folder) / "checkpoint" / "model.safetensors")


def poisoned(monkeypatch, after, value=float("nan")):
    """Let the loss of every step from the one numbered `after` be `value`."""
    original, seen = fit.terms, []

    def terms(*args):
        loss = original(*args)
        seen.append(1)
        return replace(loss, total=loss.total * value) if len(seen) > after else loss

    monkeypatch.setattr(fit, "terms", terms)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_epoch_that_is_not_finite_ends_the_run_and_keeps_the_one_before(
    tiny, finished_tiny, monkeypatch, value
):
    poisoned(monkeypatch, 4, value)
    with pytest.raises(BusError, match=r"not finite in epoch 2 of 3.*epoch 1 is kept.*lower --lr \(it is 0\.001\)"):
        run(tiny)
    monkeypatch.undo()
    output = Path(tiny.output)
    assert json.loads((output / "state" / "progress.json").read_text())["epoch"] == 1
    assert not (output / "run.json").exists()
    assert not (output / "checkpoint").exists()
    first, second = weights(finished_tiny), weights(run(tiny))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_loss_that_is_not_finite_is_seen_inside_a_long_epoch(tiny, monkeypatch):
    poisoned(monkeypatch, 0)
    with pytest.raises(BusError, match="epoch 1 of 3, at step 20 of 50"):
        run(replace(tiny, epoch_images=400))


def test_a_huge_learning_rate_ends_with_status_two_and_one_sentence(tiny, tmp_path, capsys):
    import yaml

    wild = replace(
        tiny, backbone="test_convnext", lr=10.0, clip_grad=0.0, epochs=30, weight_decay=10.0, warmup_epochs=0
    )
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(to_mapping(wild)))
    assert train_accelerate.main(["--config", str(tmp_path / "c.yaml")]) == 2
    message = capsys.readouterr().err
    assert "is not finite in epoch" in message
    assert "a lower --lr (it is 10) or --clip_grad 1" in message
    assert "Traceback" not in message
    for path in Path(wild.output).rglob("*.safetensors"):
        assert all(torch.isfinite(value).all() for value in load_file(path).values()), path


@pytest.mark.parametrize("where", ["buffer", "optimiser"])
def test_what_a_state_keeps_is_finite(tiny, monkeypatch, where):
    original = fit.Fit.stored_tensors

    def spoiled(self, bare):
        if where == "buffer":
            next(value for name, value in bare.named_buffers() if "running_var" in name)[0] = float("inf")
        else:
            next(iter(self.optimiser.state.values()))["exp_avg_sq"].fill_(float("inf"))
        return original(self, bare)

    monkeypatch.setattr(fit.Fit, "stored_tensors", spoiled)
    with pytest.raises(BusError, match="the state of the network is not finite in epoch 1"):
        run(tiny)
    assert not (Path(tiny.output) / "state").exists()


def test_validation_logits_that_are_not_finite_are_no_auroc(tiny, monkeypatch):
    # The norms of a few images may hide it from the weights.
    original = TrainingNet.forward

    def forward(self, images):
        output = original(self, images)
        return output if self.training else output._replace(logits=output.logits * float("nan"))

    monkeypatch.setattr(TrainingNet, "forward", forward)
    with pytest.raises(BusError, match="logit of a held-out image is not finite"):
        run(tiny)


def test_steps_that_fp16_skips_are_no_fault_unless_it_skips_all(tiny, monkeypatch):
    seen = []

    def skipped(self):
        seen.append(1)
        return len(seen) in (1, 5)

    # As GradScaler does: the loss of a skipped step may be anything.
    original = fit.terms
    calls = []

    def terms(*args):
        calls.append(1)
        loss = original(*args)
        return replace(loss, inside=loss.inside + float("inf")) if len(calls) in (1, 5) else loss

    monkeypatch.setattr(fit, "terms", terms)
    monkeypatch.setattr(Accelerator, "optimizer_step_was_skipped", property(skipped))
    output = run(tiny)
    assert pd.DataFrame(json.loads((output / "history.json").read_text())).notna().all().all()
    monkeypatch.setattr(Accelerator, "optimizer_step_was_skipped", property(lambda self: True))
    with pytest.raises(BusError, match="loss is not finite in epoch 1"):
        run(replace(tiny, output=f"{tiny.output}-all"))


def test_start_and_teacher_have_finite_weights(tmp_path):
    net = create("test_resnet", 1)
    torch.nn.init.constant_(net.get_classifier().weight, float("nan"))
    save_member(tmp_path / "member", net, LABEL_SETS["malignancy"], 64, half=False)
    with pytest.raises(BusError, match="not finite"):
        start("test_resnet", 1, init_from=str(tmp_path / "member"))
    with pytest.raises(BusError, match="not finite"):
        start("test_resnet", 1, init_from=str(tmp_path / "member" / "model.safetensors"))
    with pytest.raises(BusError, match="not finite"):
        load_teacher(str(tmp_path / "member"), LABEL_SETS["malignancy"], torch.device("cpu"))


def test_a_value_beyond_fp16_is_stored_in_full(tmp_path):
    net = create("test_resnet", 1)
    torch.nn.init.constant_(net.get_classifier().bias, 1e6)
    save_member(tmp_path / "member", net, LABEL_SETS["malignancy"], 64)
    assert load_member(tmp_path / "member").get_classifier().bias.tolist() == [1e6]


def test_held_out_logits_that_are_not_finite_are_refused(tiny):
    backbone = create("test_resnet", 1)
    torch.nn.init.constant_(backbone.get_classifier().bias, float("nan"))
    cases = split(tiny).held_out(0)[:2]
    with pytest.raises(BusError, match="test_resnet gives logits or maps that are not finite"):
        held_out_logits(
            NetworkRuntime(TrainingNet(backbone).eval(), size=64, mean=[0.5] * 3, std=[0.5] * 3),
            cases,
            member="test_resnet",
            fold=0,
            malignant=1,
        )
