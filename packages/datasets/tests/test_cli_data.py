from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from detkit.cli.main import main


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
    assert f"UNREADABLE cannot read the image {broken}" in out
    assert f"UNREADABLE cannot read the image {missing}: No such file" in out
    assert main(["data", "check", str(folder), "--split", "val"]) == 0


def test_check_tells_what_is_odd(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "train" / "annotations.json"
    data = json.loads(file.read_text())
    polygons = [each for each in data["annotations"] if isinstance(each["segmentation"], list)]
    polygons[0]["bbox"][0] += 9
    polygons[1]["segmentation"] = []
    polygons[2]["bbox"] = [5, 5, 0, 9]
    file.write_text(json.dumps(data))
    assert main(["data", "check", str(folder), "--split", "train"]) == 0
    out = capsys.readouterr().out
    assert "1 boxes are more than 5 pixels away from the outline of their object" in out
    assert "1 objects have no mask" in out
    assert "1 have an empty box: left out" in out


def test_check_explains_what_is_no_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "looked for\n  coco: train/annotations.json" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_show_draws_a_sheet(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures" / "sheet.png"
    assert main(["data", "show", str(folder), "--images", "5", "--out", str(out)]) == 0
    with Image.open(out) as sheet:
        assert sheet.size == (4 * 480, 2 * 480)
        assert len(sheet.convert("RGB").getcolors(1 << 24)) > 1000
