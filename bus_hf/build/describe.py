"""Manifest, report, cards and plots of an ensemble folder, from its stored out-of-fold logits and without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bus_hf.build import drawing, lesion_type
from bus_hf.build.fit import Fit, fit
from bus_hf.build.manifest import make_manifest
from bus_hf.config import FOLD
from bus_hf.ensemble import records
from bus_hf.ensemble.folder import read_manifest, write_manifest
from bus_hf.ensemble.manifest import Ensemble
from bus_hf.errors import BusError
from bus_hf.evaluation import abstention, evidence, no_lesion, report, stored_logits, weighting
from bus_hf.filenames import LESION_TYPE, LOGITS, REPORT
from bus_hf.files import replace_folder
from bus_hf.probabilities import sigmoid
from bus_hf.reporting import cards, sanitize
from bus_hf.views import VIEW_WEIGHTS


def describe(
    folder: Path, members: Sequence[str], name: str, version: str, given: Mapping[str, float] | None = None
) -> None:
    """Fit on the stored out-of-fold logits and write manifest, report, plots and cards.

    Args:
        folder: ensemble folder with its members, `out_of_fold.parquet` and `training.json`.
        members: names in the order of the manifest; the first one is light and owns the lesion map.
        name: of the ensemble.
        version: of the ensemble.
        given: weight of each member where it is not to be fitted; the views then keep their default weights.

    Raises:
        BusError: logits or records cannot be read, or are too few to fit on.
    """
    training = records.read_members(folder)
    frame = stored_logits.read(folder / LOGITS)
    fitted = fit(frame, members, folder, given)
    classifier = lesion_type.manifest_entry(folder, fitted.views)
    manifest = make_manifest(
        folder,
        fitted,
        name=name,
        version=version,
        labels=training[members[0]].label_set,
        lesion_type=classifier,
    )
    if classifier is not None:
        lesion_type.describe(folder / LESION_TYPE, fitted.views)
    metrics = measure(frame, fitted, manifest) | {"hold_out": training[members[0]].config.get("hold_out", FOLD)}
    text = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")
    write_manifest(manifest, folder)
    _write_cards(folder, name, metrics, training)
    drawing.draw(folder, frame, fitted, training)


def redescribe(folder: Path) -> Path:
    """`describe` with the members, name and version that the folder's manifest has; fitted weights are fitted again."""
    manifest = read_manifest(folder)
    weights = {member.name: member.weight for member in manifest.members}
    before = read_report(folder) if (folder / REPORT).is_file() else {}
    given = weights if before.get("weights", {}).get("how") == "given" else None
    try:
        with replace_folder(folder, keep=True) as part:
            describe(part, list(weights), manifest.name, manifest.version, given)
    except OSError as error:
        raise BusError(
            f"it cannot be written ({error.strerror})", where=folder, remedy="make room, or let it be written to"
        ) from None
    return folder


def measure(frame: pd.DataFrame, fitted: Fit, manifest: Ensemble) -> dict[str, Any]:
    """Every metric of an ensemble on its out-of-fold logits, JSON-ready."""
    y_true, logits, groups = fitted.y_true, fitted.logits, fitted.groups
    default = next(point for point in manifest.operating_points if point.name == fitted.default_point)
    held_out = weighting.held_out_logits(frame, list(fitted.weights), list(VIEW_WEIGHTS))
    metrics = report.report(frame, fitted.weights, fitted.views, fitted.scale, fitted.points)
    metrics |= evidence.evidence(held_out, fitted.weights, fitted.views, fitted.default_point)
    answers = abstention.cross_fitted(y_true, logits, groups, sample_weight=fitted.balance)
    return metrics | {
        "no_lesion": no_lesion.measure(
            y_true,
            logits,
            fitted.peaks,
            fitted.images["pathology"].to_numpy(),
            groups,
            found_peak=fitted.found_peak,
            threshold=default.logit,
            without_lesion=manifest.threshold_logit(default, lesion_found=False),
        ),
        "weights": fitted.weighting,
        "abstain": None
        if fitted.interval is None
        else _with_probabilities(fitted.interval) | {"answered": abstention.answered(y_true, answers, groups)},
        "default_operating_point": fitted.default_point,
    }


def read_report(folder: Path) -> dict[str, Any]:
    """The metrics of a described folder; BusError where it holds none."""
    try:
        return dict(json.loads((folder / REPORT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise BusError(f"{REPORT} cannot be read", where=folder, remedy="give a folder that bus-hf has made") from None


def _write_cards(
    folder: Path, name: str, metrics: Mapping[str, Any], training: Mapping[str, records.RunRecord]
) -> None:
    # Names of folders stand in the cards.
    metrics, trained = sanitize.plain(metrics), sanitize.plain({key: records.plain(training[key]) for key in training})
    for member in trained:
        card = cards.member_card(metrics, trained[member], member)
        (folder / member / "README.md").write_text(card, encoding="utf-8")
    (folder / "README.md").write_text(cards.ensemble_card(metrics, sanitize.plain(name), trained), encoding="utf-8")


def _with_probabilities(interval: Mapping[str, Any]) -> dict[str, Any]:
    """An abstention interval with its ends as probabilities too, for tables."""
    return {**interval, **{end: round(float(sigmoid(interval[f"{end}_logit"])), 6) for end in ("low", "high")}}
