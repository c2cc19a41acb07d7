"""A prediction in short, as a picture and as a file."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bus_hf.errors import BusError
from bus_hf.inference.overlay import overlay
from tests.predictions import RESULT

PREDICTION = replace(
    RESULT,
    logits={"one": {"whole": 1.0}},
    members={"one": 0.731},
    views={"whole": 0.731},
    disagreement=None,
    grey=np.full((100, 120), 90, np.uint8),
    heatmap=None,
)


def heated():
    heat = np.zeros((100, 120), np.float32)
    heat[30:50, 15:35] = 0.8
    return replace(PREDICTION, heatmap=heat, heatmap_scale=20.0)


def test_its_text_is_short_and_tells_the_answer():
    assert repr(PREDICTION) == (
        "Prediction('scan.png': Malignant; probability 0.731, threshold 0.210 at miss_5_in_100; box 10, 20, 30, 40)"
    )
    unsure = replace(PREDICTION, uncertain=True, prediction="Benign", box=None, box_source=None)
    assert "Benign, not sure;" in repr(unsure)
    assert repr(unsure).endswith("no lesion found)")


def test_pictures_are_neither_compared_nor_written_as_json():
    other = replace(heated(), heatmap_scale=None, grey=np.zeros((100, 120), np.uint8))
    assert other == PREDICTION
    assert not {"grey", "heatmap", "heatmap_scale"} & set(other.to_dict())
    assert other.to_dict()["logits"] == {"one": {"whole": 1.0}}


@pytest.mark.parametrize("result", [PREDICTION, heated(), replace(heated(), box=None)])
def test_the_plot_is_image_box_and_heat_map(result):
    picture = result.plot(opacity=0.7)
    assert (picture.mode, picture.size) == ("RGB", (120, 100))
    assert np.array_equal(np.asarray(picture), overlay(result.grey, result.heatmap, result.box, 0.7))
    assert not np.array_equal(np.asarray(picture), overlay(result.grey))


@pytest.mark.parametrize("name", ["a.png", "b.PNG", "new/folder/c.png"])
def test_the_plot_is_saved(tmp_path, name):
    result = heated()
    path = result.save(tmp_path / name)
    assert path == tmp_path / name
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture), np.asarray(result.plot()))
    assert [other.name for other in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.png.txt"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    with pytest.raises(BusError, match=r"is a PNG file; give a name ending in \.png"):
        PREDICTION.save(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BusError, match=r"a\.png: it cannot be written \(.+\); give another name\.$"):
        PREDICTION.save(tmp_path / "file" / "a.png")


def test_a_write_that_fails_leaves_the_old_picture(tmp_path, monkeypatch):
    path = PREDICTION.save(tmp_path / "a.png")
    before = path.read_bytes()

    def full(self, file, *_):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(BusError, match="No space left on device"):
        heated().save(path)
    assert path.read_bytes() == before
    assert [other.name for other in tmp_path.iterdir()] == ["a.png"]


def test_without_its_images_it_says_the_same_and_cannot_be_drawn():
    light = heated().without_images()
    assert (light.grey, light.heatmap) == (None, None)
    assert light == heated()
    assert light.to_dict() == heated().to_dict()
    with pytest.raises(BusError, match=r"scan\.png: this prediction holds no image any more"):
        light.plot()
