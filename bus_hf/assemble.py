"""From finished runs to an ensemble folder: members, calibration on out-of-fold logits, figures, cards, manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bus_hf import ensemble
from bus_hf.errors import BusError
from bus_hf.evaluation import abstention, calibration, cards, combine, plots, report
from bus_hf.labels import label_set
from bus_hf.views import MIN_PEAK, VIEW_WEIGHTS

LOGITS = "out_of_fold.parquet"
TRAINING = "training.json"
REPORT = "report.json"
LESION_HEAD = "lesion_head.safetensors"
DEFAULT_POINT = "miss_5_in_100"


def assemble(
    runs: Sequence[Path],
    folder: Path,
    *,
    name: str = "bus-ensemble",
    version: str = "1.0.0",
    weights: Mapping[str, float] | None = None,
) -> Path:
    """Write the ensemble folder of finished runs that left out the same images.

    Args:
        runs: output folders of `train_accelerate.py`; the first one is the light member and owns the lesion map.
        folder: becomes the ensemble folder; members and figures of an earlier one are replaced.
        name: of the ensemble.
        version: of the ensemble.
        weights: vote of each member, by its backbone's name; all alike where None.

    Returns:
        `folder`, holding `ensemble.json`, a folder a member, `out_of_fold.parquet`, `training.json`, `report.json`,
        plots and cards.

    Raises:
        BusError: a run is not finished, or two runs held out other images or tell apart other classes.
    """
    records = [_json(run / "run.json") for run in runs]
    members = [record["architecture"] for record in records]
    frame = pd.concat([pd.read_parquet(run / LOGITS) for run in runs], ignore_index=True)
    _check(frame, records, [str(run) for run in runs])
    votes = _votes(members, weights)
    folder.mkdir(parents=True, exist_ok=True)
    for run, member in zip(runs, members, strict=True):
        shutil.rmtree(folder / member, ignore_errors=True)
        shutil.copytree(run / "checkpoint", folder / member)
        for file in (folder / member).iterdir():
            # safetensors writes files that only their owner reads.
            file.chmod(0o644)
    frame.to_parquet(folder / LOGITS, index=False)
    training = {
        member: record | {"history": _json(run / "history.json")}
        for run, member, record in zip(runs, members, records, strict=True)
    }
    (folder / TRAINING).write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
    return describe(folder, votes, name, version)


def describe(folder: Path, votes: Mapping[str, float], name: str, version: str) -> Path:
    """Fit on the stored out-of-fold logits and write manifest, report, plots and cards, without any training.

    Args:
        folder: ensemble folder with its members, `out_of_fold.parquet` and `training.json`.
        votes: weight of each member, in the order of the manifest; the first one is light and owns the lesion map.
        name: of the ensemble.
        version: of the ensemble.
    """
    training = _json(folder / TRAINING)
    frame = pd.read_parquet(folder / LOGITS)
    images = combine.combine(frame, votes, VIEW_WEIGHTS)
    truth, groups = images["label"].to_numpy(), images["group"].to_numpy()
    logits = images[["logit_0"]].to_numpy()
    temperature = round(calibration.fit_temperature(logits, truth), 6)
    probabilities = 1 / (1 + np.exp(-logits[:, 0] / temperature))
    points = calibration.operating_points(truth, probabilities, groups)
    first = next(iter(votes))
    labels = label_set(training[first]["label_set"])
    manifest = ensemble.Ensemble(
        name=name,
        version=version,
        label_set=labels.name,
        labels=labels.classes,
        positive=labels.positive,
        members=tuple(
            ensemble.Member(
                name=member,
                path=member,
                repo_id=None,
                revision=None,
                sha256=ensemble.sha256(folder / member / ensemble.WEIGHTS),
                weight=vote,
            )
            for member, vote in votes.items()
        ),
        views=dict(VIEW_WEIGHTS),
        lesion_map=ensemble.LesionMap(first, LESION_HEAD, ensemble.sha256(folder / first / LESION_HEAD), MIN_PEAK),
        temperature=temperature,
        operating_points=tuple(ensemble.OperatingPoint(**_triples(point)) for point in points),
        default_operating_point=DEFAULT_POINT,
        abstain=ensemble.Abstain(**abstention.band(truth, probabilities, groups)),
        light=first,
        fitted_on=ensemble.FittedOn(
            sources={str(source): int(count) for source, count in sorted(images["source"].value_counts().items())},
            groups=int(images["group"].nunique()),
            out_of_fold_sha256=ensemble.sha256(folder / LOGITS),
        ),
    )
    figures = report.report(frame, votes, VIEW_WEIGHTS, temperature, points)
    report.write_report(figures, folder / REPORT)
    ensemble.write(manifest, folder)
    for member in votes:
        card = cards.member_card(figures, training[member], member)
        (folder / member / "README.md").write_text(card, encoding="utf-8")
    (folder / "README.md").write_text(cards.ensemble_card(figures, name, training), encoding="utf-8")
    drawn = folder / "plots"
    drawn.mkdir(exist_ok=True)
    threshold = next(point["threshold"] for point in points if point["name"] == DEFAULT_POINT)
    plots.roc_curve(drawn / "roc_curve.png", truth, probabilities, groups)
    plots.confusion_matrix(drawn / "confusion_matrix.png", truth, probabilities, threshold)
    plots.reliability(drawn / "reliability.png", truth, probabilities)
    plots.decision_curve(drawn / "decision_curve.png", truth, probabilities)
    for member in votes:
        plots.training_history(drawn / f"training_history_{member}.png", training[member]["history"])
    return folder


def redescribe(folder: Path) -> Path:
    """`describe` with the votes, name and version that the folder's manifest has."""
    manifest = ensemble.read(folder)
    votes = {member.name: member.weight for member in manifest.members}
    return describe(folder, votes, manifest.name, manifest.version)


def readme_figures(folder: Path) -> str:
    """The figures of an ensemble folder as Markdown, for a README."""
    figures = _json(folder / REPORT)
    parts = (
        cards.figures_table(figures),
        cards.points_table(figures),
        f"AUROC of each view:\n\n{cards.views_table(figures)}",
        cards.heat_table(figures),
    )
    return "\n\n".join(parts) + "\n"


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BusError(
            f"{path.name} cannot be read, so no finished run is here",
            where=path.parent,
            remedy="let train_accelerate.py go on to its end",
        ) from None


def _check(frame: pd.DataFrame, records: Sequence[Mapping[str, Any]], runs: Sequence[str]) -> None:
    """Refuse runs whose logits are not out-of-fold together."""
    where = ", ".join(runs)
    sets = frame.groupby("member")["name"].agg(frozenset)
    if len(sets) != len(runs):
        raise BusError("two runs are of the same backbone", where=where, remedy="give each backbone once")
    if sets.nunique() != 1:
        raise BusError(
            "the runs held out different images, so no figure of their ensemble is out-of-fold",
            where=where,
            remedy="train all of them on the same data with the same fold and split_seed",
        )
    if any(record["label_set"] != "malignancy" for record in records):
        raise BusError(
            "a run is not of the label set 'malignancy'", where=where, remedy="assemble runs of that label set"
        )


def _votes(members: Sequence[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    given = dict(weights) if weights is not None else dict.fromkeys(members, 1.0)
    if set(given) != set(members) or min(given.values()) < 0 or sum(given.values()) <= 0:
        raise BusError(
            "the weights do not fit the members",
            remedy=f"give weights of 0 or more, not all 0, of {', '.join(members)}",
        )
    total = sum(given.values())
    return {member: given[member] / total for member in members}


def _triples(point: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in point.items()}
