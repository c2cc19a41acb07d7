"""Model cards: words around metrics that all come from a report and a run's record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from bus_hf.config import EACH_SOURCE, FOLD
from bus_hf.evaluation import no_lesion
from bus_hf.evaluation.evidence import ENSEMBLE
from bus_hf.evaluation.report import WITHOUT_NORMALS
from bus_hf.reporting import provenance, tables
from bus_hf.reporting.markdown import estimate

PLOTS_NOTE = (
    "Out-of-fold. Weights, temperature, bias and thresholds of the plots are those that ship, fitted on these images; "
    "the tables say what is cross-fitted."
)
_MEMBER_PLOTS_NOTE = (
    "Out-of-fold, of this member alone. Temperature and bias are the ensemble's, the thresholds are the member's own, "
    "all fitted on these images; the tables say what is cross-fitted."
)
# Plots that `build.drawing` draws of an ensemble and of each member, with what they show.
PLOTS = {
    "roc_curve": "ROC curve of the ensemble with its 95 % confidence band, and of each member",
    "reliability": "Predicted probability against the observed share of malignant images",
    "decision_curve": "Decision curve: net benefit against the threshold probability",
    "confusion_matrix": "Confusion matrix at the default operating point",
}
_FITTED = (
    "Weights of members and views, temperature, bias and thresholds that ship were fitted on the held-out images. In "
    "the tables of models calibration and thresholds are cross-fitted (fitted on other groups than they are measured "
    'on); the weights are not, and what that flatters an ensemble of several stands under "Weights". Strata and plots '
    "are those at the shipped calibration and threshold."
)
_MEMBER_FITTED = (
    "Temperature, bias and thresholds that ship are the ensemble's, fitted on the held-out images. Those of this "
    "member alone are cross-fitted in the tables that say so, and fitted on the images that are shown in the plots."
)
# A weight below this changes no answer that anybody would notice.
_NEAR_ZERO = 0.02


def member_card(report: Mapping[str, Any], record: Mapping[str, Any], name: str, lone: bool = False) -> str:
    """README of a member: front matter that the Hub reads, then the card, with the metrics of this member alone.

    `lone` says that it is of no ensemble, and `report` of it alone.
    """
    model = name if name in report["models"] else ENSEMBLE
    parts = report["models"][model]
    weight = report["member_weights"][name]
    summary = (
        f"A plain timm `{record['architecture']}` checkpoint, {record['input_size']} x {record['input_size']} pixels, "
        f"grey repeated to three channels. Load it with `timm.create_model('local-dir:FOLDER', pretrained=True)`; its "
        f"one logit is that of malignancy. Images are letterboxed, never stretched."
    )
    if not lone:
        summary += f"\n\nIts weight in the ensemble is {weight:.3f}. {tables.adds_text(report, name)}".rstrip()
    if weight < _NEAR_ZERO:
        summary += " **That is near zero: the ensemble is no better with this member than without it.**"
    kept = {source: {"auroc": row["auroc"], "auprc": row["auprc"]} for source, row in parts.items() if source != "all"}
    counted = {source: parts[source]["n"] for source in kept}
    if not kept:
        kept, counted = _by_source(report)
    return _card(
        title=f"{name}: malignancy in breast ultrasound",
        name=name,
        library="timm",
        results=(kept, counted),
        summary=summary,
        data=_data(record),
        start=_start(record),
        training=_training(record),
        metrics="This member alone, its calibration cross-fitted (fitted on other groups than it is measured on):\n\n"
        + tables.scores_table(parts),
        points=(
            f"This member alone, at thresholds of its own, cross-fitted:\n\n{tables.rates_table(report, model)}\n\n"
            "This member alone as the detector uses it (`members=[...]`), at the calibration and thresholds that "
            f"ship, which were fitted on these images:\n\n{tables.points_table(report, name)}"
        ),
        calibration=(
            f"Its logits, divided by {report['temperature']:.3f}, plus {report['bias']:.3f} (both fitted on the "
            "held-out images), go through a sigmoid."
            if lone
            else "In the ensemble the members' logits are averaged, divided by one temperature "
            f"({report['temperature']:.3f}), shifted by one bias ({report['bias']:.3f}) and given to a sigmoid; "
            "this member alone takes the same ones."
        ),
        heat=f"{_boxes(record, lone)}\n\n{tables.heat_table(report, [name])}",
        evidence=None,
        plots=_plots(
            report,
            PLOTS_NOTE if lone else _MEMBER_PLOTS_NOTE,
            {"roc_curve": "ROC curve with its 95 % confidence band", "training_history": "Training, epoch by epoch"},
        ),
        held_out=_held_out(record),
        fitted=_FITTED if lone else _MEMBER_FITTED,
        lift=_lift(report, record),
        report=report,
    )


def _boxes(record: Mapping[str, Any], lone: bool) -> str:
    if not lone:
        return "The boxes are those that the ensemble's light member predicts."
    return (
        "The boxes are another member's." if record["config"].get("boxes") else "The boxes are of its own lesion map."
    )


def ensemble_card(report: Mapping[str, Any], name: str, members: Mapping[str, Mapping[str, Any]]) -> str:
    """README of an ensemble folder from its report and the records of its members' training."""
    record = next(iter(members.values()))
    weights = report["member_weights"]
    silent = [f"`{member}`" for member, weight in weights.items() if weight < _NEAR_ZERO]
    summary = (
        f"{_counted(len(weights), 'timm member')} behind one manifest: `ensemble.json` holds the weights of members "
        "and views, the temperature and the bias, the operating points and the abstention interval. Load it with "
        "`bus_hf.BreastCancerDetector.from_pretrained(FOLDER)`."
    )
    if silent:
        summary += f" The weight of {', '.join(silent)} is near zero: it ships, and changes no answer."
    calibration = (
        f"Temperature {report['temperature']:.3f}, bias {report['bias']:.3f}. {tables.abstention_text(report)}"
    )
    calibration += f"\n\n{tables.no_lesion_text(report)}\n\n{tables.disagreement_text(report)}"
    models = f"{tables.models_title(report)}\n\n{tables.models_table(report)}"
    return _card(
        title=name,
        name=name,
        library="bus_hf",
        results=_by_source(report),
        summary=summary,
        data="\n\n".join(f"`{member}`: {_data(one)}" for member, one in members.items()),
        start="\n".join(f"- `{member}`: {_start(one)}" for member, one in members.items()),
        training="\n".join(f"- `{member}`: {_training(one)}" for member, one in members.items()),
        metrics=f"{tables.metrics_table(report)}\n\n{models}",
        points=f"{tables.POINTS_NOTE}\n\n{tables.points_table(report)}\n\n{tables.rates_table(report)}",
        calibration=calibration,
        heat=(
            "Heat maps are measured member by member; the one that is shown is their weighted mean, and "
            f"has not been measured itself.\n\n{tables.heat_table(report)}"
            if len(weights) > 1
            else tables.heat_table(report)
        ),
        evidence=evidence(report),
        fitted=_FITTED,
        lift=_lift(report, record),
        plots=_plots(report, f"{PLOTS_NOTE} Each member's own plots and its training are in its card.", {}),
        held_out=_held_out(record),
        report=report,
    )


def _lift(report: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    drawn = (
        "Training draws every class equally often, which lifts the logits of a network; the bias takes that lift "
        "away for the share of cancers that it was fitted on. "
        if record["config"].get("balanced_sampling")
        else ""
    )
    return (
        f"{drawn}On the held-out images the mean probability is {report['mean_probability']:.3f}, and "
        f"{report['share_malignant']:.3f} of them are malignant. At "
        "another share of cancers, or on other devices, probabilities may be off while ranks hold."
    )


def _plots(report: Mapping[str, Any], note: str, others: Mapping[str, str]) -> str:
    """Links to `PLOTS`, to the matrices at the other operating points and to `others`, captions by name."""
    default = report["default_operating_point"]
    points = [row["name"] for row in report["operating_points"] if row["name"] != default]
    named = {
        **PLOTS,
        "confusion_matrix": f"{PLOTS['confusion_matrix']}, {default}",
        **{f"confusion_matrix_{name}": f"Confusion matrix at {name}" for name in points},
        **others,
    }
    lines = [f"![{text}](plots/{name}.png)" for name, text in named.items()]
    return "\n\n".join([note, *lines])


def evidence(report: Mapping[str, Any], level: str = "##") -> str:
    """What a reviewer asks next, under headings of the given level."""
    parts: tuple[tuple[str, str], ...] = (
        ("Weights", tables.weights_text(report)),
        ("Ensemble against the best single member", tables.comparison_text(report)),
        (
            "What each view, group of views and member adds",
            f"{tables.views_table(report)}\n\n{tables.leave_out_table(report)}\n\n{tables.leave_out_text(report)}",
        ),
        (
            "Thresholds on a source they were not fitted on",
            "\n\n".join(dict.fromkeys((tables.across_text(report), tables.across_verdict(report)))),
        ),
        ("By stratum", tables.strata_table(report)),
    )
    return "\n\n".join(f"{level} {title}\n\n{text}" for title, text in parts)


def replace_between(text: str, marker: str, content: str) -> str:
    """Put `content` between `<!-- marker:start -->` and `<!-- marker:end -->`; ValueError where they are missing."""
    pattern = re.compile(rf"(<!-- {marker}:start -->\n).*?(<!-- {marker}:end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there is no <!-- {marker}:start --> ... <!-- {marker}:end -->")
    return pattern.sub(lambda match: f"{match[1]}{content.rstrip()}\n{match[2]}", text)


def unmeasured_card(record: Mapping[str, Any], name: str, why: str) -> str:
    """README of a member whose held-out images are too few for any metric; `why` says so in a sentence."""
    from huggingface_hub import ModelCard

    parts = (
        f"# {name}: malignancy in breast ultrasound",
        "For research and teaching. It is no medical device and must not decide about a patient.",
        f"A plain timm `{record['architecture']}` checkpoint, {record['input_size']} x {record['input_size']} pixels. "
        "Load it with `timm.create_model('local-dir:FOLDER', pretrained=True)`.",
        f"## Metrics\n\nNone: {why}",
        f"## Data\n\n{_data(record)}",
        f"## Training\n\n{_start(record)} {_training(record)}",
    )
    return str(ModelCard(f"---\n{_front(name, 'timm').to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def _front(name: str, library: str, results: Any = None) -> Any:
    """Front matter that the Hub reads."""
    from huggingface_hub import ModelCardData

    return ModelCardData(
        model_name=name,
        license="mit",
        library_name=library,
        pipeline_tag="image-classification",
        tags=["medical", "ultrasound", "breast-cancer"],
        eval_results=results,
    )


def _card(
    *,
    title: str,
    name: str,
    library: str,
    results: tuple[Mapping[str, Mapping[str, Any]], Mapping[str, int]],
    report: Mapping[str, Any],
    **words: str | None,
) -> str:
    from huggingface_hub import EvalResult, ModelCard

    by_source, counted = results
    evaluated = [
        EvalResult(
            task_type="image-classification",
            dataset_type=source.removesuffix(WITHOUT_NORMALS),
            # The Hub joins results of one type and configuration under the first one's name.
            dataset_config=WITHOUT_NORMALS.strip() if source.endswith(WITHOUT_NORMALS) else None,
            dataset_name=f"{source}, out-of-fold, {counted[source]} images",
            metric_type=metric,
            metric_name=f"{metric.upper()} {estimate(entry)}, 95 % interval by group",
            metric_value=entry["value"],
        )
        for source, row in by_source.items()
        for metric, entry in row.items()
        if entry is not None
    ]
    front = _front(name, library, evaluated or None)
    return str(
        ModelCard.from_template(
            front,
            template_str=files("bus_hf.reporting").joinpath("card.md").read_text(encoding="utf-8"),
            title=title,
            interval=report["interval"],
            held_out_text=tables.held_out_text(report),
            measured=_measured(report),
            project_collections=provenance.on_project_collections(report),
            peak=_peak(report),
            generated=provenance.generated(provenance.names(report)),
            **provenance.words(provenance.names(report)),
            **words,
        )
    )


def _measured(report: Mapping[str, Any]) -> str:
    """On what the metrics were measured, and what does not follow from that."""
    sources = provenance.names(report)
    if provenance.generated(sources):
        return "generated pictures alone: nothing follows for images of patients."
    devices = _counted(len(report["by_device"]), "known scanner setting")
    return f"{_counted(len(sources), 'source')}, with {devices}: results on other hospitals and devices will differ."


def _peak(report: Mapping[str, Any]) -> str:
    """Where the peak of the lesion map from which a lesion counts as found comes from."""
    measured = report.get("no_lesion")
    if measured and no_lesion.fitted(measured):
        return "The peak of the lesion map from which a lesion counts as found was fitted on these images."
    return (
        "The peak of the lesion map from which a lesion counts as found was set beforehand, not fitted on these images."
    )


def _by_source(report: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    rows = report["by_source"]
    areas = {source: {"auroc": row["auroc"], "auprc": row["auprc"]} for source, row in rows.items()}
    return areas, {source: row["n"] for source, row in rows.items()}


def _data(record: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} of {source}" for source, count in record["sources"].items())
    from_what = record["config"].get("hold_out", FOLD)
    held_out = {
        EACH_SOURCE: "none held out from what ships, each source from a network of its own",
        FOLD: f"{record['n_held_out']} images held out (fold {record['fold']} of {record['folds']})",
    }.get(from_what, f"{record['n_held_out']} images held out (all of {from_what})")
    return (
        f"trained on {record['n_train']} images ({counts}); {held_out}; {record['near_duplicate_pairs']} "
        f"near-duplicate pairs joined, {record['n_left_out']} images of conflicting groups excluded."
    )


def _start(record: Mapping[str, Any]) -> str:
    start = record["start"]
    if start.get("earlier_run"):
        return f"{_start(start['earlier_run'])} Trained on from the last weights of that run."
    text = f"{start['source']}; licence: {start['licence']}. {start['taken']} tensors taken, "
    text += f"{start['fresh']} newly initialised."
    if start["kind"] == "checkpoint":
        text += " What that member learned from is not known here: if it saw images of this data, the metrics flatter."
    teacher = record["config"].get("teacher")
    return (
        text if not teacher else f"{text} Distilled from probabilities and feature maps of another member ({teacher})."
    )


def _training(record: Mapping[str, Any]) -> str:
    config, before = record["config"], record["start"].get("earlier_run")
    first = f"first {_training(before)} Then " if before else ""
    scanners = f"other scanners mimicked at strength {config['scanner']:g}, " if config.get("scanner") else ""
    birads = f"BI-RADS term {config['birads_weight']:g}, " if config.get("birads_weight") else ""
    grey = f"grey values of other sources at {config['grey_exchange']:g}, " if config.get("grey_exchange") else ""
    sources = "every source drawn equally often, " if config.get("balance_sources") else ""
    return (
        f"{first}{record['epochs']} epochs at {record['input_size']} pixels, {record['kept']}; AdamW, peak rate "
        f"{config['lr']:g}, batch {config['batch_size']}, lesion term {config['lesion_weight']:g}, inside term "
        f"{config['inside_weight']:g}, {birads}{scanners}{grey}{sources}lesion crops {config['lesion_crop_prob']:g}; "
        f"{record['seconds'] / 60:.0f} minutes."
    )


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _held_out(record: Mapping[str, Any]) -> str:
    from_what = record["config"].get("hold_out", FOLD)
    if from_what == EACH_SOURCE:
        return (
            f"The {record['n_held_out']} images were read by networks that lacked one source each, so that a network "
            "without a large source learned from far fewer images than what ships. What ships has seen all of these "
            "images, and no metric here is of it."
        )
    if from_what != FOLD:
        return f"The {record['n_held_out']} images are those of one source, {from_what}, which no network here saw."
    return (
        f"One fold of {record['folds']} was held out ({record['n_held_out']} images), so the intervals are wide and "
        f"the other folds say nothing here."
    )
