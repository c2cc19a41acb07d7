"""From finished runs to an ensemble folder: members, calibration on out-of-fold logits, figures, cards, manifest."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bus_hf import models
from bus_hf.build import lesion_type
from bus_hf.ensemble.folder import read_manifest, sha256, write_manifest
from bus_hf.ensemble.manifest import Abstain, Ensemble, FittedOn, LesionMap, Member, OperatingPoint, sigmoid
from bus_hf.errors import BusError
from bus_hf.evaluation import (
    abstention,
    calibration,
    combine,
    evidence,
    no_lesion,
    report,
    stored_logits,
    weighting,
)
from bus_hf.filenames import CONFIG, HISTORY, LESION_HEAD, LOGITS, REPORT, RUN, TRAINING, WEIGHTS
from bus_hf.files import replace_folder, settle
from bus_hf.labels import label_set
from bus_hf.reporting import cards, multiclass, plots, provenance, sanitize, tables
from bus_hf.views import MIN_PEAK, VIEW_WEIGHTS

_BOX = ["box_x", "box_y", "box_w", "box_h"]
DEFAULT_POINT = "miss_5_in_100"
_FINISH = "let train_accelerate.py go on to its end"


def assemble(
    runs: Sequence[Path],
    folder: Path,
    *,
    name: str = "bus-ensemble",
    version: str = "1.0.0",
    weights: Mapping[str, float] | None = None,
    second: Sequence[Path] = (),
) -> Path:
    """Write the ensemble folder of finished runs that left out the same images.

    Args:
        runs: output folders of `train_accelerate.py`; the first one is the light member and owns the lesion map.
        folder: becomes the ensemble folder; members and figures of an earlier one are replaced.
        name: of the ensemble.
        version: of the ensemble.
        weights: vote of each member, by its backbone's name; by how well each separates the classes where None.
        second: runs of a lesion-type classifier, one a fold of one split; the network of the first one ships.

    Returns:
        `folder`, holding `ensemble.json`, a folder a member, `out_of_fold.parquet`, `training.json`, `report.json`,
        plots and cards.

    Raises:
        BusError: a run is not finished, or two runs held out other images or tell apart other classes.
    """
    for run in (*runs, *second):
        settle(run)
    records = [_json(run / RUN) for run in runs]
    members = [record["architecture"] for record in records]
    frame = pd.concat([stored_logits.read(run / LOGITS, _FINISH) for run in runs], ignore_index=True)
    _check(frame, records, [str(run) for run in runs])
    given = _votes(members, weights) if weights is not None else None
    for run in runs:
        for file in (WEIGHTS, LESION_HEAD):
            models.check_finite(run / "checkpoint" / file)
    try:
        with replace_folder(folder, keep=True) as part:
            shutil.rmtree(part / lesion_type.FOLDER, ignore_errors=True)
            if second:
                lesion_type.ship(second, part)
            for run, member in zip(runs, members, strict=True):
                _take(run / "checkpoint", part / member)
            frame.to_parquet(part / LOGITS, index=False)
            training = {
                member: record | {"history": _json(run / HISTORY)}
                for run, member, record in zip(runs, members, records, strict=True)
            }
            (part / TRAINING).write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
            describe(part, members, name, version, given)
    except OSError as error:
        raise BusError(
            f"it cannot be written ({error.strerror})", where=folder, remedy="name another folder with --to"
        ) from None
    return folder


def _take(checkpoint: Path, home: Path) -> None:
    """Put a run's member into its folder in the ensemble: configuration, weights and lesion head, and nothing else."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS, LESION_HEAD):
        # Contents alone: safetensors writes files that only their owner reads.
        shutil.copyfile(checkpoint / name, home / name)


def describe(
    folder: Path, members: Sequence[str], name: str, version: str, given: Mapping[str, float] | None = None
) -> None:
    """Fit on the stored out-of-fold logits and write manifest, report, plots and cards, without any training.

    Args:
        folder: ensemble folder with its members, `out_of_fold.parquet` and `training.json`.
        members: names in the order of the manifest; the first one is light and owns the lesion map.
        name: of the ensemble.
        version: of the ensemble.
        given: weight of each member where it is not to be fitted; the views then keep their default weights.
    """
    training = _json(folder / TRAINING)
    frame = stored_logits.read(folder / LOGITS)
    weights, views, fit = _weights(frame, members, given)
    images = combine.combine(frame, weights, views)
    truth, groups = images["label"].to_numpy(), images["group"].to_numpy()
    raw = images["logit_0"].to_numpy()
    scale = calibration.fit_scale(raw, truth)
    if scale is None:
        raise BusError(
            "no temperature and bias fit the held-out logits",
            where=folder,
            remedy="train the members again, more slowly",
        )
    logits = scale.logits(raw)
    points = calibration.operating_points(truth, logits, groups)
    # The points lie from the least to the most sensitive one.
    default = DEFAULT_POINT if DEFAULT_POINT in {point["name"] for point in points} else points[-1]["name"]
    band = abstention.fit(truth, logits, groups)
    first = members[0]
    peaks = _peaks(frame, first, images["name"])
    found_peak = no_lesion.fit_found_peak(peaks, images["pathology"].to_numpy() != "normal", MIN_PEAK)
    labels = label_set(training[first]["label_set"])
    manifest = Ensemble(
        name=name,
        version=version,
        label_set=labels.name,
        labels=labels.classes,
        positive=labels.positive,
        members=tuple(
            Member(
                name=member,
                path=member,
                repo_id=None,
                revision=None,
                sha256=sha256(folder / member / WEIGHTS),
                config_sha256=sha256(folder / member / CONFIG),
                weight=weight,
            )
            for member, weight in weights.items()
        ),
        views=views,
        lesion_map=LesionMap(first, LESION_HEAD, sha256(folder / first / LESION_HEAD), MIN_PEAK, found_peak),
        temperature=scale.temperature,
        bias=scale.bias,
        operating_points=tuple(OperatingPoint(**_triples(point)) for point in points),
        default_operating_point=default,
        abstain=None if band is None else Abstain(**band),
        light=first,
        fitted_on=FittedOn(
            sources={str(source): int(count) for source, count in sorted(images["source"].value_counts().items())},
            groups=int(images["group"].nunique()),
            prevalence=round(float(truth.mean()), 6),
            out_of_fold_sha256=sha256(folder / LOGITS),
        ),
        lesion_type=lesion_type.found(folder, views),
    )
    if manifest.lesion_type is not None:
        lesion_type.describe(folder / lesion_type.FOLDER, views)
    read = weighting.held_out_logits(frame, members, list(VIEW_WEIGHTS))
    figures = report.report(frame, weights, views, scale, points)
    figures |= evidence.evidence(read, weights, views, default)
    answers = abstention.cross_fitted(truth, logits, groups)
    chosen = next(point for point in manifest.operating_points if point.name == default)
    figures |= {
        "no_lesion": no_lesion.measure(
            truth,
            logits,
            peaks,
            images["pathology"].to_numpy(),
            groups,
            found_peak=found_peak,
            threshold=chosen.logit,
            without_lesion=manifest.threshold_logit(chosen, lesion_found=False),
        ),
        "weights": fit,
        "abstain": None if band is None else _shown(band) | {"answered": abstention.answered(truth, answers, groups)},
        "default_operating_point": default,
    }
    text = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")
    write_manifest(manifest, folder)
    # Names of folders stand in the cards.
    figures, records = sanitize.plain(figures), sanitize.plain(training)
    for member in members:
        card = cards.member_card(figures, records[member], member)
        (folder / member / "README.md").write_text(card, encoding="utf-8")
    (folder / "README.md").write_text(cards.ensemble_card(figures, sanitize.plain(name), records), encoding="utf-8")
    alone = {member: combine.combine(frame, {member: 1.0}, views)["logit_0"].to_numpy() for member in members}
    # Members' histories lay there before each had plots of its own.
    for stale in (folder / "plots").glob("training_history_*.png"):
        stale.unlink()
    _draw(folder / "plots", truth, logits, groups, default, alone if len(alone) > 1 else {})
    for member, own in alone.items():
        _draw(folder / member / "plots", truth, scale.logits(own), groups, default)
        plots.training_history(folder / member / "plots" / "training_history.png", training[member]["history"])


def _peaks(frame: pd.DataFrame, member: str, names: pd.Series) -> np.ndarray:
    """Peak of a member's lesion map on each of the images called `names`, float (n,)."""
    rows = frame[frame["member"] == member].drop_duplicates("name").set_index("name")
    return rows.loc[names, "peak"].to_numpy()


def _draw(
    drawn: Path,
    labels: np.ndarray,
    logits: np.ndarray,
    groups: np.ndarray,
    default: str,
    others: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Draw `cards.PLOTS` of one reader, and its confusion matrix at each operating point, thresholds of its own."""
    drawn.mkdir(exist_ok=True)
    chances = calibration.PLAIN.probabilities(logits)
    plots.roc_curve(drawn / "roc_curve.png", labels, chances, groups, others=others)
    plots.reliability(drawn / "reliability.png", labels, chances)
    plots.decision_curve(drawn / "decision_curve.png", labels, chances)
    for stale in drawn.glob("confusion_matrix*.png"):
        stale.unlink()
    for point, target in calibration.supported(labels, groups).items():
        name = "confusion_matrix" if point == default else f"confusion_matrix_{point}"
        threshold = calibration.threshold_for_sensitivity(labels, logits, target)
        plots.confusion_matrix(drawn / f"{name}.png", labels, logits, threshold)


def redescribe(folder: Path) -> Path:
    """`describe` with the members, name and version that the folder's manifest has; fitted weights are fitted again."""
    manifest = read_manifest(folder)
    weights = {member.name: member.weight for member in manifest.members}
    before = _json(folder / REPORT) if (folder / REPORT).is_file() else {}
    given = weights if before.get("weights", {}).get("how") == "given" else None
    try:
        with replace_folder(folder, keep=True) as part:
            describe(part, list(weights), manifest.name, manifest.version, given)
    except OSError as error:
        raise BusError(
            f"it cannot be written ({error.strerror})", where=folder, remedy="make room, or let it be written to"
        ) from None
    return folder


def readme_figures(folder: Path, home: Path | None = None) -> str:
    """The figures of an ensemble folder as Markdown, for a README; with two plots where its folder `home` is known."""
    figures = sanitize.plain(_json(folder / REPORT))
    drawn = Path(os.path.relpath(folder, home or folder), "plots").as_posix()
    pictures = [f"![{cards.PLOTS[name]}]({drawn}/{name}.png)" for name in ("roc_curve", "reliability")]
    parts: tuple[str, ...] = (
        tables.metrics_table(figures),
        tables.models_title(figures),
        tables.models_table(figures),
        tables.comparison_text(figures),
        tables.leave_out_text(figures),
        tables.POINTS_NOTE,
        tables.points_table(figures),
        "Every rate of the ensemble, predictive values at other shares of cancers too, and Wilson's intervals:",
        tables.rates_table(figures),
        tables.light_text(figures),
        tables.across_verdict(figures),
        tables.abstention_text(figures),
        tables.no_lesion_text(figures),
        tables.disagreement_text(figures),
        tables.heat_table(figures),
    )
    if provenance.own(figures):
        parts += (f"Beside what the predecessor of this project stated:\n\n{tables.predecessor_table(figures)}",)
    beside = folder / lesion_type.FOLDER / REPORT
    also = (multiclass.lesion_type_text(_json(beside)),) if beside.is_file() else ()
    return "\n\n".join((*parts, *also, *(pictures if home else ()))) + "\n"


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BusError(
            f"{path.name} cannot be read, so no finished run is here",
            where=path.parent,
            remedy=_FINISH,
        ) from None


def _check(frame: pd.DataFrame, records: Sequence[Mapping[str, Any]], runs: Sequence[str]) -> None:
    """Refuse runs whose logits are not out-of-fold together, or not those that the ensemble would read."""
    where, first = ", ".join(runs), records[0]["architecture"]
    sets = frame.groupby("member")["name"].agg(frozenset)
    if len(sets) != len(runs):
        raise BusError("two runs are of the same backbone", where=where, remedy="give each backbone once")
    if sets.nunique() != 1:
        raise BusError(
            "the runs held out different images, so no figure of their ensemble is out-of-fold",
            where=where,
            remedy="train all of them on the same data with the same fold and split_seed",
        )
    # Where a box was looked for and not found it is NaN, which equals nothing.
    boxes = frame.drop_duplicates(["name", "member"]).set_index(["name", "member"])[_BOX].fillna(-1.0).unstack()
    for side in _BOX:
        apart = [member for member in sets.index if not np.allclose(boxes[side][member], boxes[side][first], atol=1e-3)]
        if apart:
            raise BusError(
                f"the lesion crops of {apart[0]} took other boxes than the light member's, which it will take in use",
                where=where,
                remedy=f"read it again in them: train_accelerate.py --reread RUN/checkpoint --boxes {runs[0]}/{LOGITS}",
            )
    if any(record["label_set"] != "malignancy" for record in records):
        raise BusError(
            "a run is not of the label set 'malignancy'", where=where, remedy="assemble runs of that label set"
        )


def _weights(
    frame: pd.DataFrame, members: Sequence[str], given: Mapping[str, float] | None
) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """Weights of members and views, and how they came about: given, or by d' where that pays out-of-fold."""
    if given is not None:
        return dict(given), dict(VIEW_WEIGHTS), {"how": "given"}
    read = weighting.held_out_logits(frame, members, list(VIEW_WEIGHTS))
    found = weighting.gain(read, VIEW_WEIGHTS)
    if not found["pays"]:
        return *weighting.equal(read, VIEW_WEIGHTS), {"how": "equal: weights by d' did not pay", **found}
    return *weighting.by_dprime(read, VIEW_WEIGHTS), {"how": "by d'", **found}


def _votes(members: Sequence[str], given: Mapping[str, float]) -> dict[str, float]:
    if set(given) != set(members) or min(given.values()) < 0 or sum(given.values()) <= 0:
        raise BusError(
            "the weights do not fit the members",
            remedy=f"give weights of 0 or more, not all 0, of {', '.join(members)}",
        )
    total = sum(given.values())
    return {member: given[member] / total for member in members}


def _shown(band: Mapping[str, Any]) -> dict[str, Any]:
    """A band with its ends as probabilities too, for tables."""
    ends = {end: sigmoid(band[f"{end}_logit"]) for end in ("low", "high")}
    return {**band, **{end: round(value, 6) for end, value in ends.items()}}


def _triples(point: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in point.items()}
