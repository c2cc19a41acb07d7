"""One member in a pipeline of transformers, which reads timm checkpoints as they lie on the Hub.

python examples/transformers_pipeline.py owner/bus-ensemble-resnet50 scan.png
"""

import sys

import torch
from PIL import Image
from transformers import pipeline

repo_id, image = sys.argv[1:]
(result,) = pipeline("image-classification", model=repo_id, dtype=torch.float32)(Image.open(image).convert("RGB"))
print(f"{result['score']:.4f}")
