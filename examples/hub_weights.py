"""One member with hf_hub_download, safetensors and timm; nothing of bus_hf is imported.

  python examples/hub_weights.py owner/bus-ensemble-resnet50 scan.png

Prints the probability that the whole image gives by this member alone: one view of five, one member of several, without
the ensemble's temperature.
"""

import json
import sys

import timm
import torch
from huggingface_hub import hf_hub_download
from PIL import Image
from safetensors.torch import load_file

repo_id, image = sys.argv[1:]
with open(hf_hub_download(repo_id, "config.json"), encoding="utf-8") as file:
    config = json.load(file)
model = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config.get("model_args", {}))
weights = load_file(hf_hub_download(repo_id, "model.safetensors"))
# Weights travel in half precision.
model.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in weights.items()})
model.eval()

cfg = config["pretrained_cfg"]
transform = timm.data.create_transform(
    input_size=tuple(cfg["input_size"]),
    interpolation=cfg["interpolation"],
    crop_pct=cfg["crop_pct"],
    crop_mode=cfg["crop_mode"],
    mean=tuple(cfg["mean"]),
    std=tuple(cfg["std"]),
)
with torch.inference_mode():
    logit = model(transform(Image.open(image).convert("L").convert("RGB"))[None])
print(f"{torch.sigmoid(logit).item():.4f}")
