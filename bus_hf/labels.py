"""Label sets: the classes of a model, their order, and how a data set's entries become them."""

from __future__ import annotations

from dataclasses import dataclass

from bus_hf.errors import BusError


@dataclass(frozen=True)
class LabelSet:
    """Classes in the order of a model's outputs.

    `malignancy` has one logit, of `positive`; the others have one logit a class.
    """

    name: str
    classes: tuple[str, ...]
    positive: str | None = None

    @property
    def num_logits(self) -> int:
        """Outputs of a model: 1 for a binary set with a positive class, else one a class."""
        return len(self.output_names)

    @property
    def output_names(self) -> tuple[str, ...]:
        """One name an output, as timm and transformers count them: the positive class alone for a single logit."""
        return self.classes if self.positive is None else (self.positive,)

    @property
    def cancer(self) -> int:
        """Index of the malignant class, the last one in every set."""
        return len(self.classes) - 1


LABEL_SETS = {
    "malignancy": LabelSet("malignancy", ("benign", "malignant"), positive="malignant"),
    "busi3": LabelSet("busi3", ("normal", "benign", "malignant")),
    "histology": LabelSet("histology", ("cyst", "fibroadenoma", "other benign", "carcinoma")),
}

# BUS-BRA `Histology` entries that are benign and neither cyst nor fibroadenoma.
_OTHER_BENIGN = frozenset(
    {
        "duct ectasia",
        "ductal hyperplasia",
        "fat necrosis",
        "fibrocystic changes",
        "galactocele",
        "hamartoma",
        "hyperplasia",
        "intraductal papilloma",
        "lipoma",
        "lobular atrophy",
        "lymph node",
        "mastitis",
        "metaplasia apocrina",
        "phyllodes tumor",
        "proliferative lesions",
        "sclerosing adenosis",
    }
)
# Malignant, but not carcinomas: the histology set excludes them.
_NOT_CARCINOMA = frozenset({"lymphoma", "phyllodes tumor"})


def label_set(name: str) -> LabelSet:
    """Return the label set called `name`; BusError lists the known ones."""
    try:
        return LABEL_SETS[name]
    except KeyError:
        raise BusError(f"there is no label set '{name}'", remedy=f"choose one of {', '.join(LABEL_SETS)}") from None


def histology_class(histology: str, pathology: str) -> str | None:
    """Class of the `histology` set for a BUS-BRA row; None where the set excludes the row.

    Raises:
        KeyError: a benign entry that is not in the lists above.
    """
    entry = histology.strip().lower()
    if pathology == "malignant":
        return None if entry in _NOT_CARCINOMA else "carcinoma"
    if entry in ("cyst", "fibroadenoma"):
        return entry
    if entry in _OTHER_BENIGN:
        return "other benign"
    raise KeyError(histology)


def birads_category(text: str | None) -> int:
    """BI-RADS category, 1 to 6, of what a table says ("4", "4a"); 0 where it says none."""
    first = (text or "").strip()[:1]
    return int(first) if first in tuple("123456") else 0
