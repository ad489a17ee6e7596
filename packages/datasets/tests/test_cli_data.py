from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.cli.main import main
from detkit.data.loader import augmented
from detkit.data.sheet import contact_sheet
from detkit.data.source import open_split
from detkit.data.transforms.flip import Flip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert (
        main(["data", "make", "shapes", "--out", str(tmp_path / "shapes"), "--images", "6", "--val-images", "3"]) == 0
    )
    return tmp_path / "shapes"


def test_make_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shapes"
    assert main(["data", "make", "shapes", "--out", str(out), "--images", "2"]) == 0
    assert f"train on them with data={out}" in " ".join(capsys.readouterr().out.split("\n"))
    assert len(list(out.glob("*/images/*.jpg"))) == 3


def test_make_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "make"]) == 0
    assert "shapes  a seeded practice dataset" in capsys.readouterr().out
    assert main(["data", "make", "circles"]) == 2
    assert "nothing called 'circles' can be made" in capsys.readouterr().err


def test_make_keeps_what_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "make", "shapes", "--out", str(folder), "--images", "2"]) == 2
    assert "there is a dataset already" in capsys.readouterr().err
    assert main(["data", "make", "shapes", "--out", str(folder), "--images", "2", "--overwrite"]) == 0


def test_check_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "train: 6 images" in out
    assert "val: 3 images" in out
    assert "circle" in out


def test_check_names_unreadable_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, missing = folder / "train" / "images" / "000002.jpg", folder / "train" / "images" / "000004.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    missing.unlink()
    assert main(["data", "check", str(folder), "--split", "train"]) == 1
    out = capsys.readouterr().out
    assert f"image-unreadable: cannot read the image {broken}" in out
    assert f"image-missing: cannot read the image {missing}: No such file" in out
    assert main(["data", "check", str(folder), "--split", "val"]) == 0


def test_check_explains_what_is_no_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "\n  coco: train/annotations.json" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_show_draws_a_sheet(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures" / "sheet.png"
    assert main(["data", "show", str(folder), "--images", "5", "--out", str(out)]) == 0
    with Image.open(out) as sheet:
        assert sheet.size == (4 * 480, 2 * 480)
        assert len(sheet.convert("RGB").getcolors(1 << 24)) > 1000


def test_show_takes_images_of_one_class(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(folder), "--class", "Circle", "--out", str(tmp_path / "sheet.png")]) == 0
    assert main(["data", "show", str(folder), "--class", "dragon"]) == 2
    assert "there is no class 'dragon'; there are: circle, square" in capsys.readouterr().err


def test_sheets_show_what_training_sees(folder: Path) -> None:
    dataset, mirror = open_split(folder), [Flip(horizontal=1.0)]
    shown = [
        contact_sheet(dataset, [0], sample=sample)
        for sample in (dataset.__getitem__, lambda index: augmented(dataset, mirror, index, seed=1))
    ]
    pixels = [np.asarray(dataset[0].image.permute(1, 2, 0)), np.asarray(augmented(dataset, mirror, 0, 1).image)]
    assert (pixels[0][:, ::-1] == pixels[1].transpose(1, 2, 0)).all()
    assert shown[0].tobytes() != shown[1].tobytes()


def test_show_writes_a_page_that_needs_no_other_files(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert main(["data", "show", str(folder), "--images", "4", "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert text.count("<svg") == text.count("data:image/jpeg;base64,") == 4
    assert not re.search(r"(src|href)=['\"](?!data:)", text)
    assert "circle, class 1, " in text
    assert "objects of each class" in text
    assert "4 of 6 images" in text


def test_names_in_pages_are_text(folder: Path, tmp_path: Path) -> None:
    file = folder / "train" / "annotations.json"
    data = json.loads(file.read_text())
    for number, category in enumerate(data["categories"]):
        category["name"] = f"<b onclick='x'>{number}"
    file.write_text(json.dumps(data))
    assert main(["data", "show", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    assert "<b onclick" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_show_knows_what_it_can_write(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(folder), "--out", "page.pdfx"]) == 2
    assert "a file that ends in .png, .jpg or .html is needed" in capsys.readouterr().err
