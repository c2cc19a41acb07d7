"""`bus-hf evaluate`: metrics of an ensemble on labelled images, or from stored out-of-fold logits."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_hf.cli import shared
from bus_hf.errors import BusError
from bus_hf.filenames import LOGITS

if TYPE_CHECKING:
    import pandas as pd

    from bus_hf.data.dataset import Case
    from bus_hf.ensemble.manifest import Ensemble
    from bus_hf.evaluation.calibration import Scale
    from bus_hf.inference.detector import BreastCancerDetector
    from bus_hf.inference.prediction import Prediction

_EXAMPLES = """\
  bus-hf evaluate DATA/hospital-b
  bus-hf evaluate DATA/hospital-b --ensemble my_ensemble --plots plots/ --json > metrics.json
  bus-hf evaluate scans/ --labels labels.csv           a table instead of folders benign/ and malignant/
  bus-hf evaluate --oof checkpoints                    the metrics again, without an image"""
_NOTES = """\
Near-duplicates and patients are grouped, and 95 % intervals resample whole groups. Groups whose images contradict each
other's class are excluded. Images that the ensemble was trained on flatter it: its own metrics are out-of-fold."""

# Of the rows that the detector has averaged over its members.
_MEMBER = "ensemble"


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "evaluate", "measure an ensemble on labelled images", _EXAMPLES, _NOTES)
    command.add_argument(
        "data", nargs="*", metavar="DATA", help="folder of labelled images, or Hub id; several are joined"
    )
    shared.labels_flag(command)
    command.add_argument(
        "--oof", type=Path, metavar="FILE", help="out-of-fold logits (Parquet, or an ensemble folder) instead of DATA"
    )
    command.add_argument("--keep-conflicts", action="store_true", help="keep groups that hold more than one class")
    command.add_argument("--json", action="store_true", help="print every metric as one JSON object")
    command.add_argument(
        "--plots", type=Path, metavar="DIR", help="draw ROC, reliability, confusion and decision curve there"
    )
    shared.ensemble_flags(command)
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print metrics; 1 where images were excluded because they could not be read."""
    from bus_hf.evaluation.calibration import PLAIN, Scale

    if bool(given.data) == bool(given.oof):
        raise BusError("evaluate takes either DATA or --oof", remedy="give labelled images, or stored logits")
    if given.oof and given.labels:
        raise BusError("stored logits have their labels", where="--labels", remedy="leave it out")
    if given.oof:
        frame, manifest = _stored(given)
        weights = {member.name: member.weight for member in manifest.members}
        scale, incomplete = Scale(manifest.temperature, manifest.bias), False
    else:
        frame, manifest, incomplete = _measured(given)
        # The detector has combined the members and calibrated already.
        weights, scale = {_MEMBER: 1.0}, PLAIN
    metrics = _metrics(frame, weights, scale, manifest, given)
    if given.json:
        print(json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        print(_tables(metrics))
    return 1 if incomplete else 0


def _stored(given: argparse.Namespace) -> tuple[pd.DataFrame, Ensemble]:
    from bus_hf.ensemble.folder import read_manifest
    from bus_hf.evaluation import stored_logits

    path = given.oof / LOGITS if given.oof.is_dir() else given.oof
    return stored_logits.read(path, "give out_of_fold.parquet"), read_manifest(given.ensemble or path.parent)


def _measured(given: argparse.Namespace) -> tuple[pd.DataFrame, Ensemble, bool]:
    """Run the ensemble on every image; one row an image and view, and whether some could not be read."""
    import pandas as pd

    from bus_hf.inference.prediction import Failure

    detector = shared.open_detector(given)
    manifest = detector.manifest
    shared.require_malignancy(manifest, "evaluate")
    cases, incomplete = shared.load_cases(given.data, table=given.labels)
    shared.warn_of_known_sources(manifest, cases, "the metrics")
    kept = shared.grouped(cases, given.keep_conflicts)
    rows: list[dict[str, Any]] = []
    results = detector.predict_many((case.image for case, _ in kept), heatmap=True)
    for (case, group), result in zip(kept, shared.progress(results, len(kept), "reading"), strict=True):
        if isinstance(result, Failure):
            shared.say(f"{case.name}: {result.error.partition(': ')[2]} It is excluded.")
            incomplete = True
        else:
            rows += _rows(case, group, result, detector)
    if not rows:
        raise BusError(
            "none of the images can be read", where=" ".join(given.data), remedy="give readable, labelled images"
        )
    return pd.DataFrame(rows), manifest, incomplete


def _rows(case: Case, group: str, result: Prediction, detector: BreastCancerDetector) -> list[dict[str, Any]]:
    """One row a view, its calibrated logit averaged over the members, else as training writes out-of-fold logits."""
    from bus_hf.evaluation.lesions import on_lesion

    facts = {
        "name": case.name,
        "source": case.source,
        "group": group,
        "label": case.label,
        "member": _MEMBER,
        "pathology": case.pathology,
        "birads": case.birads,
        "histology": case.histology,
        "device": case.device,
        "height": case.image.shape[0],
        "width": case.image.shape[1],
        **on_lesion(case.mask, result.box, result.heatmap),
    }
    manifest = detector.manifest
    return [
        facts | {"view": view, "logit_0": logit / manifest.temperature + manifest.bias}
        for view, logit in detector.view_logits(result).items()
    ]


def _metrics(
    frame: pd.DataFrame,
    weights: Mapping[str, float],
    scale: Scale,
    manifest: Ensemble,
    given: argparse.Namespace,
) -> dict[str, Any]:
    """The report; its operating points carry the rates on these images."""
    from bus_hf.evaluation.combine import combine
    from bus_hf.evaluation.report import report

    try:
        images = combine(frame, weights, manifest.views)
    except (KeyError, ValueError):
        raise BusError(
            "the logits are not those of this ensemble's members and views",
            where=given.oof,
            remedy="give the out_of_fold.parquet that lies in its folder",
        ) from None
    points = [{"name": point.name, "logit": point.logit} for point in manifest.operating_points]
    metrics = report(frame, weights, manifest.views, scale, points)
    measured = metrics["overall"]["operating_points"]
    metrics["operating_points"] = [
        {**point, **{rate: measured[point["name"]][rate] for rate in ("sensitivity", "specificity")}}
        for point in metrics["operating_points"]
    ]
    if given.plots:
        default = next(p for p in manifest.operating_points if p.name == manifest.default_operating_point)
        _draw(given.plots, images, scale.logits(images["logit_0"].to_numpy()), default.logit)
    return metrics


def _draw(folder: Path, images: pd.DataFrame, logits: Any, threshold: float) -> None:
    from bus_hf.evaluation.calibration import PLAIN
    from bus_hf.reporting import plots

    y_true, y_prob = images["label"].to_numpy(), PLAIN.probabilities(logits)
    try:
        if len(set(y_true.tolist())) == 2:
            plots.roc_curve(folder / "roc_curve.png", y_true, y_prob, images["group"].to_numpy())
            plots.decision_curve(folder / "decision_curve.png", y_true, y_prob)
        plots.reliability(folder / "reliability.png", y_true, y_prob)
        plots.confusion_matrix(folder / "confusion_matrix.png", y_true, logits, threshold)
    except OSError as error:
        raise shared.unwritable(folder, error) from None
    shared.say(f"plots are in {folder}")


def _tables(measured: Mapping[str, Any]) -> str:
    from bus_hf.reporting import tables

    parts = [tables.metrics_table(measured), tables.points_table(measured), tables.heat_table(measured)]
    return "\n\n".join([*parts, f"In brackets: {measured['interval']}."])
