"""Made folders in the published layouts, tiny and of no patient."""

import csv

import cv2
import numpy as np

SHAPE = (60, 80)
BUSBRA = [
    ("bus_0001-l", "1", "fibroadenoma", "benign", "3"),
    ("bus_0001-r", "1", "cyst", "benign", "2"),
    ("bus_0002-l", "2", "invasive ductal carcinoma", "malignant", "5"),
    ("bus_0003-s", "3", "lymphoma", "malignant", "5"),
]
BREST_COLUMNS = (
    "CaseID",
    "Image_filename",
    "Mask_tumor_filename",
    "Mask_other_filename",
    "Age",
    "BIRADS",
    "Diagnosis",
    "Classification",
)
BREST = [
    (1, "case001.png", "case001_tumor.png", None, 51, "4b", "Fibroadenoma", "benign"),
    (2, "case002.png", "case002_tumor.png", "case002_other1.png&case002_other2.png", None, 5, "NST&DCIS", "malignant"),
    (3, "case003.png", None, None, 40, "1", "not applicable", "normal"),
]


def scan(seed, shape=SHAPE):
    """A grey picture with the grain of an ultrasound image."""
    return np.random.default_rng(seed).gamma(2.0, 30.0, shape).clip(0, 255).astype(np.uint8)


def mask(shape=SHAPE, top=10, left=20, height=20, width=30):
    out = np.zeros(shape, np.uint8)
    out[top : top + height, left : left + width] = 255
    return out


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def busi(root, counts=(("benign", 2), ("malignant", 2), ("normal", 1)), seed=0):
    for index, (name, count) in enumerate(counts):
        for number in range(1, count + 1):
            write(root / name / f"{name} ({number}).png", scan(seed + 10 * index + number))
            drawn = np.zeros(SHAPE, np.uint8) if name == "normal" else mask(left=number)
            write(root / name / f"{name} ({number})_mask.png", drawn)
    return root


def busbra(root, rows=BUSBRA):
    root.mkdir(parents=True, exist_ok=True)
    with (root / "bus_data.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Side"])
        table.writerows([*row, "GE Logiq 7", "left"] for row in rows)
    with (root / "5-fold-cv.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ID", "Pathology", "kFold"])
        table.writerows([row[0], row[3], 1 + index] for index, row in enumerate(rows[:3]))
    for index, (name, *_) in enumerate(rows):
        write(root / "Images" / f"{name}.png", scan(100 + index))
        write(root / "Masks" / f"{name.replace('bus_', 'mask_')}.png", mask())
    return root


def brest(root, rows=BREST, columns=BREST_COLUMNS):
    from openpyxl import Workbook

    book = Workbook()
    for row in (columns, *rows, [None] * len(columns)):
        book.active.append(row)
    root.mkdir(parents=True, exist_ok=True)
    book.save(root / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx")
    for index, (_, image, *masks) in enumerate(rows):
        write(root / "BrEaST-Lesions_USG-images_and_masks" / image, scan(200 + index))
        for name in "&".join(filter(None, masks[:2])).split("&"):
            if name:
                write(root / "BrEaST-Lesions_USG-images_and_masks" / name, mask())
    return root


def labels_by_name(part):
    """Class of each image of a data set, by its name."""
    names = part.features["label"].names
    return {name: names[label] for name, label in zip(part["name"], part["label"], strict=True)}
