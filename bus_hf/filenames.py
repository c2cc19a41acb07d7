"""Names of the files that training and the build write, and that everything else reads."""

# In a member: timm's own form, the network as ONNX on the same weights, and the head that finds the lesion.
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
GRAPH = "graph.onnx"
LESION_HEAD = "lesion_head.safetensors"

# In a run: the member, its record, its course and the logits of the images that it held out.
CHECKPOINT = "checkpoint"
RUN = "run.json"
HISTORY = "history.json"
LOGITS = "out_of_fold.parquet"

# In an ensemble folder: the manifest, records of its members' runs, metrics, and a site's calibration.
MANIFEST = "ensemble.json"
TRAINING = "training.json"
REPORT = "report.json"
CALIBRATION = "calibration.json"
LESION_TYPE = "lesion_type"
PLOTS = tuple(f"plots/{name}.png" for name in ("roc_curve", "reliability", "confusion_matrix", "decision_curve"))

# In a folder of stored logits: images that no metric counts, and why.
EXCLUDED = "left_out.csv"


def without(source: str) -> str:
    """Folder of the run that holds out a source, inside that of the run on everything."""
    return f"without_{source}"
