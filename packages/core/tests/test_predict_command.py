from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle

from detkit.cli.main import main
from detkit.detector import Detector
from detkit.model_directory import save_model
from detkit.predict.results import ResultFiles
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction
from detkit.testing.processes import Job, detkit


def picture(path: Path, box: tuple[int, int, int, int], channel: int = 0) -> Path:
    """A black image with a box, x1, y1, x2, y2, of a primary colour."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2], channel] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def model(colours: Detector, tmp_path: Path) -> str:
    return str(save_model(colours, tmp_path / "model", config={"name": "use/colours", "input": {"min_size": 0}}))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Red, green and blue boxes, with scores 0.9, 0.6 and 0.3."""
    for channel, name in enumerate(("a", "b", "c")):
        picture(tmp_path / "photos" / f"{name}.png", (8, 4, 24, 12), channel)
    return tmp_path / "photos"


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--device", "cpu"])


def entries(out: Path) -> Any:
    return json.loads((out / "predictions.json").read_text())


def test_json_is_in_cocos_form_with_the_datasets_ids(model: str, photos: Path, tmp_path: Path) -> None:
    assert predict(model, photos, "--out", tmp_path / "out", "--save", "json") == 0
    first, second = entries(tmp_path / "out")
    assert (first["image_id"], first["category_id"], first["category_name"]) == (1, 3, "red")
    assert (second["image_id"], second["category_id"], second["category_name"]) == (2, 7, "green")
    assert first["bbox"] == [8, 4, 16, 8]
    assert first["score"] == 0.9
    assert first["file_name"] == str(photos / "a.png")
    assert rle.toBbox(first["segmentation"]).tolist() == [8, 4, 16, 8]
    assert first["segmentation"]["size"] == [32, 48]


def test_csv_has_a_row_for_each_detection(model: str, photos: Path, tmp_path: Path) -> None:
    predict(model, photos, "--out", tmp_path / "out", "--save", "csv", "--score", "0")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["category_name"] for row in rows] == ["red", "green", "blue"]
    assert rows[2] == {
        "file_name": str(photos / "c.png"),
        "image_id": "3",
        "category_id": "11",
        "category_name": "blue",
        "score": "0.3",
        "x_min": "8.0",
        "y_min": "4.0",
        "x_max": "24.0",
        "y_max": "12.0",
    }


def test_pictures_are_drawn_for_every_image(model: str, photos: Path, tmp_path: Path) -> None:
    predict(model, photos, "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png", "c.png"]
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.width >= 640


def test_the_summary_says_what_was_found_and_where_it_is(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(model, photos, "--out", tmp_path / "out", "--save", "images,json")
    said = capsys.readouterr().out
    assert "2 objects in 3 images: 1 green, 1 red" in said
    assert f"written: {tmp_path}/out/*.png, {tmp_path}/out/predictions.json" in said


def test_results_are_not_overwritten_unasked(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.json").write_text("precious")
    assert predict(model, photos, "--out", tmp_path / "out", "--save", "json") == 2
    assert "out is not empty; give another --out, or --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "predictions.json").read_text() == "precious"


def test_results_are_overwritten_when_asked(model: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.json").write_text("old")
    assert predict(model, photos, "--out", tmp_path / "out", "--save", "json", "--overwrite") == 0
    assert len(entries(tmp_path / "out")) == 2


def test_a_mistake_leaves_no_folder_behind(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(model, tmp_path / "nothing.jpg", "--out", tmp_path / "out") == 2
    assert "nothing.jpg does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unreadable_images_are_reported_and_left_out(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:40])
    assert predict(model, photos, "--out", tmp_path / "out", "--save", "json", "--score", "0") == 1
    assert [entry["category_name"] for entry in entries(tmp_path / "out")] == ["red", "blue"]
    said = capsys.readouterr()
    assert "skipped: cannot read the image" in said.err
    assert "b.png" in said.err
    assert "1 images could not be read" in said.out


def test_nothing_found_gives_an_empty_list_and_a_header(model: str, tmp_path: Path) -> None:
    picture(tmp_path / "black.png", (0, 0, 0, 0))
    predict(model, tmp_path / "black.png", "--out", tmp_path / "out", "--save", "json,csv")
    assert entries(tmp_path / "out") == []
    assert (tmp_path / "out" / "predictions.csv").read_text().startswith("file_name,image_id,")


def test_images_of_one_name_do_not_replace_each_other(model: str, tmp_path: Path) -> None:
    sources = [picture(tmp_path / folder / "a.png", (0, 0, 9, 9)) for folder in ("one", "two")]
    predict(model, *sources, "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-2.png", "a.png"]


def test_labels_select_classes(model: str, photos: Path, tmp_path: Path) -> None:
    predict(model, photos, "--out", tmp_path / "out", "--save", "json", "--labels", "green, blue", "--score", "0")
    assert [entry["category_name"] for entry in entries(tmp_path / "out")] == ["green", "blue"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--save", "pdf"), "--save has pdf; there are images, json, csv"),
        (("--labels", "gren"), "did you mean green"),
        (("--device", "abacus"), "'abacus' is not a device"),
    ],
)
def test_wrong_options_are_explained(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main(["predict", model, str(photos), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_recipe_says_that_its_weights_are_random(
    use_toy: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict("use/colours-recipe", photos, "--out", tmp_path / "out") == 0
    assert "note: the recipe use/colours-recipe says how to build" in capsys.readouterr().err


def test_tables_appear_only_when_they_are_complete(tmp_path: Path) -> None:
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    found = Prediction((4, 4), boxes=torch.ones(1, 4), scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(KeyboardInterrupt), ResultFiles(tmp_path, ["json", "csv"], Categories(("cat",))) as files:
        files.add(image, found)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.xdist_group("processes")  # forked from one
def test_the_command_works_in_a_process_of_its_own(
    model: str, photos: Path, tmp_path: Path, use_toy: Path, start: Callable[..., Job]
) -> None:
    options = ("--out", tmp_path / "out", "--save", "images,json,csv", "--device", "cpu")
    done = start(detkit, "predict", model, photos, *options, plugin=use_toy).wait()
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 5
