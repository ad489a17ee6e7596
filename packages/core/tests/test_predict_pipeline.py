from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from detkit.detector import Detector
from detkit.predict import predict, stream
from detkit.predict.sources import Source
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec


def picture(red: tuple[int, int, int, int] | None = (8, 4, 24, 12), size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """A black image of a size (height, width) with a red box, x1, y1, x2, y2, and a green one at the lower right."""
    image = np.zeros((*size, 3), np.uint8)
    if red is not None:
        image[red[1] : red[3], red[0] : red[2], 0] = 255
    image[-4:, -4:, 1] = 255
    return image


def test_one_image_gives_one_prediction(colours: Detector) -> None:
    prediction = colours.predict(picture())
    assert prediction.boxes.tolist() == [[8, 4, 24, 12], [44, 28, 48, 32]]
    assert prediction.labels.tolist() == [0, 1]
    assert prediction.masks[0].sum() == 16 * 8
    assert prediction.path is None


def test_a_list_gives_a_list(colours: Detector) -> None:
    assert len(colours.predict([picture()])) == 1
    assert colours.predict([]) == []


def test_all_forms_of_an_image_agree(colours: Detector, tmp_path: Path) -> None:
    array = picture()
    Image.fromarray(array).save(tmp_path / "a.png")
    forms = [array, Image.fromarray(array), torch.from_numpy(array).permute(2, 0, 1), tmp_path / "a.png"]
    for prediction in colours.predict([*forms, str(tmp_path / "a.png")]):
        assert prediction.boxes.tolist() == [[8, 4, 24, 12], [44, 28, 48, 32]]


def test_files_name_their_predictions(colours: Detector, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(picture()).save(tmp_path / name)
    assert [prediction.path for prediction in colours.predict(tmp_path)] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "b.png"),
    ]


def test_answers_are_in_the_original_pixels(use_toy: Path) -> None:
    from use_toy.colours import ColourDetector

    model = ColourDetector(categories=Categories(("red", "green")), input=InputSpec(min_size=64, max_size=100))
    prediction = model.predict(picture((80, 40, 240, 120), (320, 480)))
    assert prediction.image_size == (320, 480)
    assert prediction.masks.shape[1:] == (320, 480)
    red = prediction.boxes[prediction.labels == 0][0]
    torch.testing.assert_close(red, torch.tensor([80.0, 40, 240, 120]), rtol=0, atol=480 / 96)


def test_images_are_padded_to_the_square_of_the_model(use_toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from use_toy.colours import ColourDetector

    model = ColourDetector(categories=Categories(("red", "green")), input=InputSpec(min_size=0, square=100))
    seen, detect = [], model.detect
    monkeypatch.setattr(model, "detect", lambda images, sizes: seen.append(images.shape) or detect(images, sizes))
    model.predict(picture())
    model.eval()([torch.zeros(3, 20, 30, dtype=torch.uint8)])
    assert seen == [(1, 3, 104, 104)] * 2


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batches_change_nothing(colours: Detector, batch_size: int) -> None:
    images = [picture((8, 4, 24, 12 + 2 * extra), (32 + 8 * extra, 48)) for extra in range(5)]
    boxes = [prediction.boxes[0].tolist() for prediction in predict(colours, images, batch_size=batch_size)]
    assert boxes == [[8, 4, 24, 12 + 2 * extra] for extra in range(5)]


def test_the_threshold_leaves_out_low_scores(colours: Detector) -> None:
    assert colours.predict(picture(), score_threshold=0.7).labels.tolist() == [0]


@pytest.mark.parametrize("labels", [["green"], [1], "green"])
def test_labels_select_classes(colours: Detector, labels: list[str | int] | str) -> None:
    prediction = predict(colours, picture(), labels=labels)
    assert prediction.labels.tolist() == [1]
    assert len(prediction.masks) == 1


def test_an_unknown_label_names_near_ones(colours: Detector) -> None:
    with pytest.raises(ValueError, match="no class 'gren'; did you mean green"):
        predict(colours, picture(), labels=["gren"])


def test_nothing_found(colours: Detector) -> None:
    prediction = colours.predict(np.zeros((8, 8, 3), np.uint8))
    assert len(prediction) == 0
    assert prediction.boxes.shape == (0, 4)


def test_the_model_is_left_in_its_mode(colours: Detector) -> None:
    colours.train()
    colours.backbone.eval()
    colours.predict(picture())
    assert colours.training
    assert colours.head.training
    assert not colours.backbone.training


def test_predictions_can_be_changed_in_place(colours: Detector) -> None:
    prediction = colours.predict(picture())
    prediction.boxes.mul_(2)
    assert not prediction.boxes.requires_grad


def test_a_batch_size_of_zero_is_refused(colours: Detector) -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        predict(colours, picture(), batch_size=0)


def test_an_unreadable_file_is_an_error(colours: Detector, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad\.jpg"):
        colours.predict(tmp_path)


def test_unreadable_files_can_be_left_out(colours: Detector, tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    Image.fromarray(picture()).save(tmp_path / "c.png")
    skipped: list[str | None] = []
    pairs = stream(colours, tmp_path, batch_size=2, on_unreadable=lambda source, error: skipped.append(source.path))
    assert [Path(prediction.path).name for _, prediction in pairs] == ["a.png", "c.png"]
    assert skipped == [str(tmp_path / "b.png")]


def test_the_stream_gives_the_original_image(colours: Detector) -> None:
    [(image, _)] = stream(colours, [picture()])
    assert torch.equal(image, torch.from_numpy(picture()).permute(2, 0, 1))


def test_the_stream_reads_only_little_ahead(colours: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def count(source: Source) -> Tensor:
        read.append(source)
        return torch.zeros(3, 8, 8, dtype=torch.uint8)

    monkeypatch.setattr(Source, "read", count)
    pairs = stream(colours, [picture()] * 100, batch_size=2)
    for _ in range(4):
        next(pairs)
    assert len(read) <= 4 + 2 * 2 + 1


def test_a_stream_that_is_left_early_ends_its_threads(colours: Detector) -> None:
    pairs = stream(colours, [picture()] * 10)
    next(pairs)
    pairs.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-image")]
