"""What cards say of the collections that an ensemble learned from and was measured on: those of its records alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bus_hf.evaluation.report import WITHOUT_NORMALS


@dataclass(frozen=True)
class Collection:
    """A known collection: who and where, how it is labelled, its known leaks, and whom to cite; "" where none."""

    about: str
    outcome: str
    leaks: str
    cite: str


_PHANTOMS = "phantoms"
_KNOWN = {
    "busi": Collection(
        "**BUSI** (Cairo; women of 25 to 75 years, LOGIQ E9 systems, images of lesions and of normal breasts), "
        "collected before this project and published for research",
        'BUSI: by its radiologists; its normal breasts count as "no cancer", and metrics are given with and '
        "without them",
        "BUSI holds near-duplicates by the hundred, lesions in two classes, axilla images and burned-in marks "
        "(Pawłowska et al., Data in Brief 2023). Near-duplicates are grouped, conflicting groups excluded. "
        "Images that pass as different and are of one patient cannot be found, since BUSI has no patient "
        "numbers: its metrics may flatter. Corners are blacked out at random in training, so that little can be "
        "learned from burned-in text.",
        'W. Al-Dhabyani, M. Gomaa, H. Khaled, A. Fahmy, "Dataset of breast ultrasound images", Data in Brief '
        "28:104863, "
        "2020.",
    ),
    "busbra": Collection(
        "**BUS-BRA** (Rio de Janeiro; biopsy-proven lesions, four scanners), collected before this project and "
        "published for research",
        "BUS-BRA: by biopsy",
        "",
        'W. Gómez-Flores, M. J. Gregorio-Calas, W. C. de Albuquerque Pereira, "BUS-BRA: a breast ultrasound '
        'dataset for assessing computer-aided diagnosis systems", Medical Physics, 2023.',
    ),
    "brest": Collection(
        "**BrEaST** (Poland; curated images with free-hand annotations), collected before this project and "
        "published for research",
        "BrEaST: by biopsy or follow-up",
        "",
        'A. Pawłowska et al., "Curated benchmark dataset for ultrasound based breast lesion analysis", Scientific Data '
        "11:148, 2024.",
    ),
    _PHANTOMS: Collection(
        "**phantoms**: generated pictures, which show no patient; metrics on them say nothing of real images",
        "phantoms: by how they were made",
        "",
        "",
    ),
}
# The collections that this project trains and measures its own ensemble on.
_PROJECT_COLLECTIONS = {"busi", "busbra", "brest"}


def names(report: Mapping[str, Any]) -> list[str]:
    """Sources that a report measured."""
    return [name for name in report["by_source"] if not name.endswith(WITHOUT_NORMALS)]


def on_project_collections(report: Mapping[str, Any]) -> bool:
    """Whether a report is of the project's own collections."""
    return set(names(report)) == _PROJECT_COLLECTIONS


def words(sources: Iterable[str]) -> dict[str, str | None]:
    """Parts of a card on its collections: participants, outcomes, leaks and citations, None for what there is not."""
    known = {name: _KNOWN.get(name, _unknown(name)) for name in sources}
    cites = [f"- {one.cite}" for one in known.values() if one.cite]
    patients = [name for name in known if name != _PHANTOMS]
    return {
        "participants": "\n".join(f"- {one.about}." for one in known.values()),
        "outcomes": "; ".join(one.outcome for one in known.values()),
        "leaks": "\n\n".join(one.leaks for one in known.values() if one.leaks) or None,
        "cites": "\n".join(cites) or None,
        "ethics": (
            "Only published, de-identified images were used, under their own terms; none is in this repository. The "
            "weights hold no image."
            if patients and all(name in _KNOWN for name in patients)
            else "No image of a patient was used."
            if not patients
            else "The weights hold no image. Whether the images were published or may be used is for whoever "
            "trained on them to say."
        ),
    }


def generated(sources: Iterable[str]) -> bool:
    """Whether all images are generated ones, which show no patient."""
    return set(sources) == {_PHANTOMS}


def images(sources: Iterable[str]) -> str:
    """What to call the labelled images that a calibration was fitted on; a table's images have the source "site"."""
    ordered = sorted(sources)
    if generated(ordered):
        return "generated pictures (phantoms), which show no patient"
    return f"labelled images of {', '.join('this site' if name == 'site' else name for name in ordered)}"


def _unknown(name: str) -> Collection:
    return Collection(f"**{name}**: a collection that this project does not know", f"{name}: as it is labelled", "", "")
