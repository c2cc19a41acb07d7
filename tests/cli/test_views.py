"""`bus-hf views`: the sheet shows transforms, views and the box."""

import cv2
import numpy as np

from bus_hf.cli import main


def test_views_draws_transforms_and_views(labelled, tmp_path, capsys):
    image = next(path for path in sorted((labelled / "malignant").iterdir()) if "(" in path.stem)
    sheet = tmp_path / "new" / "sheet.png"
    assert main(["views", str(image), "-o", str(sheet), "--size", "64"]) == 0
    assert "from the mask" in capsys.readouterr().err
    drawn = cv2.imread(str(sheet))
    # Tiles of 64 px with their frames, four a row; two rows are the views.
    assert drawn.shape[1] == 4 * (64 + 8)
    assert drawn.shape[0] % (64 + 28) == 0
    assert drawn.shape[0] // (64 + 28) > 3
    # The lesion's box stands in colour in the first tile of the views, and its middle in the middle of `view: lesion`.
    first = drawn[-2 * (64 + 28) : -(64 + 28), : 64 + 8].astype(int)
    assert (first.max(2) - first.min(2)).max() > 100


def test_views_takes_the_given_box_and_says_when_there_is_none(scans, tmp_path, capsys):
    plain, boxed = tmp_path / "plain.png", tmp_path / "boxed.png"
    assert main(["views", str(scans / "b.png"), "-o", str(plain), "--size", "64"]) == 0
    assert "no lesion is known" in capsys.readouterr().err
    assert main(["views", str(scans / "b.png"), "-o", str(boxed), "--size", "64", "--roi", "10,10,30,30"]) == 0
    assert not np.array_equal(cv2.imread(str(plain)), cv2.imread(str(boxed)))
    assert main(["views", str(scans / "b.png"), "-o", str(boxed), "--roi", "9000,0,5,5"]) == 2
    assert "--roi" in capsys.readouterr().err


def test_views_refuses_a_mask_of_another_image(scans, tmp_path, capsys):
    mask = tmp_path / "mask.png"
    cv2.imwrite(str(mask), np.full((50, 60), 255, np.uint8))
    assert main(["views", str(scans / "b.png"), "--mask", str(mask)]) == 2
    assert "mask.png" in capsys.readouterr().err
