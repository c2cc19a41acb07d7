"""One member by timm's own way to the Hub, with the transform that its config names.

python examples/timm_hub.py owner/bus-ensemble-resnet50 scan.png
"""

import sys

import timm
import torch
from PIL import Image

repo_id, image = sys.argv[1:]
model = timm.create_model(f"hf-hub:{repo_id}", pretrained=True).eval().float()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
with torch.inference_mode():
    logit = model(transform(Image.open(image).convert("L").convert("RGB"))[None])
print(f"{torch.sigmoid(logit).item():.4f}")
