"""Large images seen in tiles."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle
from torch import Tensor
from torchvision import tv_tensors

from detkit.cli.evaluate import _options, _tiling
from detkit.cli.main import main
from detkit.detector import Detector
from detkit.evaluation import evaluate
from detkit.interfaces import Dataset, Evaluator
from detkit.model_directory import save_model
from detkit.ops.boxes import upright_boxes
from detkit.predict import predict
from detkit.predict.tiles import join
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.placed_masks import PlacedMasks, encode_masks
from detkit.structures.prediction import Prediction
from detkit.structures.sample import Sample
from detkit.tiling import Tiling

SMALL = {"min_size": 0, "divisor": 1}
"""The input of a model that takes images as they are."""


@pytest.fixture
def painted(use_toy: Path) -> Detector:
    from use_toy.painted import PaintedDetector

    return PaintedDetector(categories=Categories(("ship", "plane")), input=InputSpec(**SMALL))


def picture(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Black, of a size (height, width), with a ship in each box, x1, y1, x2, y2, all with the score 0.8."""
    image = np.zeros((*size, 3), np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes, start=1):
        image[top:bottom, left:right] = (number, 0, 204)
    return image


# ----------------------------------------------------------------------------------------------- where tiles are


@given(st.integers(1, 150), st.integers(1, 150), st.integers(3, 60), st.data())
@settings(deadline=None)
def test_tiles_cover_an_image_overlap_and_stay_inside(height: int, width: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    windows = Tiling(size=size, overlap=overlap).windows(height, width)
    seen = np.zeros((height, width), int)
    for left, top, right, bottom in windows:
        assert (bottom - top, right - left) == (min(size, height), min(size, width))
        seen[top:bottom, left:right] += 1
    assert seen.min() >= 1
    assert len(set(windows)) == len(windows)
    assert windows == sorted(windows, key=lambda window: (window[1], window[0]))
    lefts = sorted({window[0] for window in windows})
    assert all(before < after <= before + size - overlap for before, after in pairwise(lefts))


def test_tiles_are_those_of_dotas_devkit() -> None:
    """Of an image of 2000 x 1100 pixels: the last of each row is moved back to the border."""
    lefts = sorted({(left, top) for left, top, _, _ in Tiling(size=1024, overlap=200).windows(1100, 2000)})
    assert lefts == [(0, 0), (0, 76), (824, 0), (824, 76), (976, 0), (976, 76)]


@pytest.mark.parametrize(("size", "overlap"), [(100, 100), (100, -1), (0, 0)])
def test_tiles_that_would_not_advance_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="the overlap must be from 0 to below the size"):
        Tiling(size=size, overlap=overlap)


# --------------------------------------------------------------------------------------------------- objects


@given(st.data())
@settings(deadline=None)
def test_what_a_tile_sees_whole_is_found_once(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(8, 90), "height"), data.draw(st.integers(8, 90), "width")
    size = data.draw(st.integers(8, 60), "size")
    tiling = Tiling(size=size, overlap=data.draw(st.integers(0, size - 1), "overlap"))
    windows = tiling.windows(height, width)
    truth = _apart(data, windows, height, width)
    parts = [_seen(truth, window, (height, width)) for window in windows]
    joined = join(parts, windows, tiling.nms_iou)
    whole = {tuple(box) for box in truth.tolist() if any(_inside(box, window) for window in windows)}
    found = [tuple(box) for box in joined.boxes.tolist()]
    assert sorted(box for box in found if box in whole) == sorted(whole)
    for box in found:  # the rest are parts of what no tile sees whole
        assert box in whole or not any(_inside(box, one) for one in whole)


def _apart(data: st.DataObject, windows: list[tuple[int, int, int, int]], height: int, width: int) -> Tensor:
    """Boxes (N, 4) that do not touch each other."""
    found: list[tuple[int, int, int, int]] = []
    for _ in range(data.draw(st.integers(1, 5), "objects")):
        left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        box = (left, top, data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height)))
        if all(box[2] < one[0] or one[2] < box[0] or box[3] < one[1] or one[3] < box[1] for one in found):
            found.append(box)
    return torch.tensor(found, dtype=torch.float32)


def _seen(truth: Tensor, window: tuple[int, int, int, int], image_size: tuple[int, int]) -> Prediction:
    """What a perfect model says of a tile: the part of each object that lies in it; less of it, a lower score."""
    bounds = torch.tensor(window, dtype=torch.float32)
    boxes = torch.cat([truth[:, :2].maximum(bounds[:2]), truth[:, 2:].minimum(bounds[2:])], dim=1)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
    count = len(boxes)
    return Prediction(image_size, boxes=boxes, scores=torch.full((count,), 0.9), labels=torch.zeros(count).long())


def _inside(box: tuple[float, ...] | list[float], window: tuple[float, ...]) -> bool:
    return box[0] >= window[0] and box[1] >= window[1] and box[2] <= window[2] and box[3] <= window[3]


@pytest.mark.parametrize("right", [36, 40])
def test_a_sure_part_does_not_take_the_place_of_the_whole(right: int) -> None:
    """The second tile sees a part of the object only, with a higher score; at 40 the first one ends, too."""
    parts = [
        Prediction((40, 70), boxes=torch.tensor([box]), scores=torch.tensor([score]), labels=torch.tensor([0]))
        for box, score in (((20.0, 10, right, 20), 0.8), ((30.0, 10, right, 20), 0.9))
    ]
    assert join(parts, [(0, 0, 40, 40), (30, 0, 70, 40)], 0.5).boxes.tolist() == [[20, 10, right, 20]]


def test_of_two_parts_of_what_no_tile_sees_whole_the_surer_one_stays() -> None:
    """They overlap by more than half; the first is a little larger and nearly a guess."""
    parts = [
        Prediction((40, 90), boxes=torch.tensor([box]), scores=torch.tensor([score]), labels=torch.tensor([0]))
        for box, score in (((5.0, 10, 50, 20), 0.1), ((20.0, 10, 64, 20), 0.9))
    ]
    joined = join(parts, [(0, 0, 50, 40), (20, 0, 70, 40)], 0.5)
    assert joined.boxes.tolist() == [[20, 10, 64, 20]]


def test_objects_of_other_classes_in_one_place_stay() -> None:
    boxes = torch.tensor([[10.0, 10, 30, 30]])
    parts = [
        Prediction((40, 60), boxes=boxes, scores=torch.tensor([0.9]), labels=torch.tensor([label])) for label in (0, 1)
    ]
    windows = [(0, 0, 40, 40), (5, 0, 45, 40)]
    assert join(parts, windows, 0.5).labels.tolist() == [0, 1]


def test_a_small_object_inside_a_large_one_stays() -> None:
    """Both are whole in both tiles, so neither is a part of the other."""
    boxes = torch.tensor([[10.0, 10, 35, 35], [15, 15, 20, 20]])
    part = Prediction((40, 60), boxes=boxes, scores=torch.tensor([0.9, 0.8]), labels=torch.zeros(2).long())
    assert join([part, part], [(0, 0, 40, 40), (5, 0, 45, 40)], 0.5).boxes.tolist() == boxes.tolist()


@pytest.mark.parametrize("degrees", [0.0, 30.0, -75.0])
def test_rotated_boxes_come_back_to_their_places_once(degrees: float) -> None:
    """The second tile begins in the middle of the ship, and says surely that there is a shorter one."""
    ship = torch.tensor([[50.0, 40, 40, 10, degrees]])
    bottom = upright_boxes(ship)[0, 3].item()
    across, down = math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
    end = 8 if down >= 0 else -8
    part = torch.tensor([[50 + end * across, 40 + end * down, 18, 9, degrees]])
    parts = [
        Prediction((100, 100), boxes=boxes, scores=torch.tensor([score]), labels=torch.tensor([0]))
        for boxes, score in ((ship, 0.7), (part, 0.9))
    ]
    first, second = (0, 0, 100, int(bottom) + 8), (0, int(upright_boxes(part)[0, 1]), 100, 100)
    joined = join(parts, [first, second], 0.5)
    assert joined.boxes.tolist() == ship.tolist()


# --------------------------------------------------------------------------------------------------- predict


def test_masks_boxes_and_keypoints_are_at_their_places_to_the_pixel(painted: Detector) -> None:
    image = picture((90, 130), (3, 5, 20, 12), (35, 30, 52, 44), (100, 70, 130, 90), (60, 0, 61, 1))
    image[32:36, 38:50] = 0  # a hole
    found = painted.predict(image, tile=Tiling(size=50, overlap=30))
    plain = painted.predict(image)
    order, expected = (each.boxes[:, 0].argsort() for each in (found, plain))
    for name in ("boxes", "scores", "labels", "keypoints"):
        assert torch.equal(getattr(found, name)[order], getattr(plain, name)[expected])
    assert isinstance(found.masks, PlacedMasks)
    assert torch.equal(found.masks.dense()[order], plain.masks[expected])
    assert found.image_size == (90, 130)


@pytest.mark.parametrize("size", [(20, 30), (50, 50)])
def test_an_image_of_one_tile_is_answered_as_without(painted: Detector, size: tuple[int, int]) -> None:
    image = picture(size, (3, 5, 12, 12), (4, 6, 30, 20))
    found, plain = painted.predict(image, tile=Tiling(size=50, overlap=20)), painted.predict(image)
    for name in ("boxes", "scores", "labels", "keypoints"):
        assert torch.equal(getattr(found, name), getattr(plain, name))
    assert torch.equal(found.masks.dense(), plain.masks)


def test_tiles_of_a_number_overlap_by_200(painted: Detector) -> None:
    image = picture((300, 1100), (900, 100, 1000, 200))
    found = painted.predict(image, tile=1024)
    assert found.boxes.tolist() == [[900, 100, 1000, 200]]


def test_batches_of_tiles_change_nothing(painted: Detector) -> None:
    image = picture((90, 130), (3, 5, 20, 12), (35, 30, 52, 44))
    tiling = Tiling(size=50, overlap=30)
    boxes = [painted.predict(image, tile=tiling, batch_size=size).boxes.tolist() for size in (1, 3, 100)]
    assert boxes[0] == boxes[1] == boxes[2]


def test_the_threshold_the_classes_and_the_path_are_as_without_tiles(painted: Detector, tmp_path: Path) -> None:
    image = picture((60, 100), (3, 5, 20, 12), (70, 30, 90, 44))
    image[30:44, 70:90, 1:] = (1, 100)
    Image.fromarray(image).save(tmp_path / "harbour.png")
    tiling = Tiling(size=40, overlap=25)
    [found] = predict(painted, [tmp_path / "harbour.png"], tile=tiling, labels=["plane"])
    assert found.boxes.tolist() == [[70, 30, 90, 44]]
    assert found.path == str(tmp_path / "harbour.png")
    assert predict(painted, image, tile=tiling, score_threshold=0.5).labels.tolist() == [0]


def test_nothing_found_in_any_tile(painted: Detector) -> None:
    found = painted.predict(picture((60, 100)), tile=Tiling(size=40, overlap=10))
    assert found.boxes.shape == (0, 4)
    assert found.masks.dense().shape == (0, 60, 100)


def test_what_cannot_be_joined_is_refused(painted: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = painted.postprocess

    def labelling(*given: object) -> list[Prediction]:
        found = plain(*given)  # type: ignore[arg-type]
        found[0].set("semantic", torch.zeros(40, 40))
        return found

    monkeypatch.setattr(painted, "postprocess", labelling)
    with pytest.raises(ValueError, match="the model answers semantic, which cannot be joined from tiles"):
        predict(painted, picture((60, 100)), tile=Tiling(size=40, overlap=10), optimize=False)


def test_proposals_are_not_of_tiles(painted: Detector) -> None:
    with pytest.raises(ValueError, match="without tta and tile"):
        painted.predict(picture((60, 100)), tile=Tiling(), proposals=(torch.zeros(0, 4), torch.zeros(0)))


def test_the_command_sees_tiles(painted: Detector, tmp_path: Path) -> None:
    model = save_model(painted, tmp_path / "model", config={"name": "use/painted", "input": SMALL})
    Image.fromarray(picture((90, 130), (3, 5, 20, 12), (35, 30, 52, 44))).save(tmp_path / "a.png")
    options = ["--save", "images,json", "--tile", "50", "--overlap", "30", "--device", "cpu"]
    assert main(["predict", str(model), str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *options]) == 0
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert sorted(entry["bbox"] for entry in entries) == [[3, 5, 17, 7], [35, 30, 17, 14]]
    assert all(rle.toBbox(entry["segmentation"]).tolist() == entry["bbox"] for entry in entries)
    assert {tuple(entry["segmentation"]["size"]) for entry in entries} == {(90, 130)}
    assert (tmp_path / "out" / "a.png").is_file()


# --------------------------------------------------------------------------------------------------- evaluate


class Harbour(Dataset):
    """Two images."""

    categories = Categories(("ship", "plane"))
    images: ClassVar = [picture((90, 130), (3, 5, 20, 12), (35, 30, 52, 44)), picture((20, 30), (1, 1, 9, 9))]

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        image = tv_tensors.Image(torch.from_numpy(self.images[index]).permute(2, 0, 1))
        boxes = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=self.size(index))
        target = {"boxes": boxes, "labels": torch.zeros(0).long(), "crowd": torch.zeros(0).bool()}
        return Sample(image, target, {"image_id": index, "path": "", "original_size": self.size(index)})

    def size(self, index: int) -> tuple[int, int]:
        height, width = self.images[index].shape[:2]
        return height, width

    def ground_truth(self) -> Any:
        return None


class Kept(Evaluator):
    """What was predicted."""

    def start(self, dataset: Dataset) -> None:
        self.found: dict[Any, Prediction] = {}

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        self.found[info["image_id"]] = prediction

    def state(self) -> Any:
        return self.found

    def merge(self, states: Iterable[Any]) -> None: ...

    def compute(self) -> dict[str, dict[str, Any]]:
        return {}


def test_evaluation_is_of_whole_images(painted: Detector) -> None:
    kept = Kept()
    evaluate(painted, Harbour(), [kept], tile=Tiling(size=50, overlap=30), batch_size=4, workers=0)
    assert [sorted(kept.found[index].boxes.tolist()) for index in (0, 1)] == [
        [[3, 5, 20, 12], [35, 30, 52, 44]],
        [[1, 1, 9, 9]],
    ]
    assert kept.found[0].image_size == (90, 130)
    assert torch.equal(kept.found[1].masks.dense(), painted.predict(Harbour.images[1]).masks)


def test_losses_are_not_of_tiles(painted: Detector) -> None:
    with pytest.raises(ValueError, match="compute them without tta and tile"):
        evaluate(painted, Harbour(), [], tile=Tiling(), losses=True)


@pytest.mark.parametrize("given", ["tile=big", "tile.side=100", "tile=true", "tile.overlap=0.5"])
def test_the_tiles_of_an_evaluation_are_checked(given: str) -> None:
    with pytest.raises(ValueError, match="it must be a number of pixels, or have size, overlap"):
        _tiling(_options(["data=x", given])["tile"])
    assert _tiling(_options(["data=x", "tile.size=50", "tile.overlap=5"])["tile"]) == Tiling(size=50, overlap=5)
    assert _tiling(_options(["data=x", "tile=300"])["tile"]) == Tiling(size=300)


# --------------------------------------------------------------------------------------------------- masks


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2**30))
def test_placed_masks_are_the_masks(height: int, width: int, margin: int, corner: int, seed: int) -> None:
    left, top = margin - min(corner, margin), min(corner, margin)
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(4, height, width, generator=generator) > torch.rand(4, 1, 1, generator=generator)
    size = (height + margin, width + margin)
    placed = PlacedMasks.of(masks).shifted(left, top, size)
    dense = torch.zeros(4, *size, dtype=torch.bool)
    dense[:, top : top + height, left : left + width] = masks
    assert placed.shape == dense.shape
    assert torch.equal(placed.dense(), dense)
    assert np.array_equal(placed.numpy(), dense.numpy())
    assert torch.equal(placed[2], dense[2])
    some = torch.rand(4, generator=generator) > 0.5
    for index in (some, some.nonzero()[:, 0], slice(1, 3)):
        assert torch.equal(placed[index].dense(), dense[index])
    expected = rle.encode(np.asfortranarray(dense.permute(1, 2, 0).numpy().astype(np.uint8)))
    assert placed.encode() == encode_masks(placed) == encode_masks(dense) == expected
