"""A dataset of large images as one of overlapping tiles."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from hotcoco import mask as rle
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from detkit.data.targets import cut_to_canvas, mask_areas, select, visible_shares
from detkit.data.transforms.moving import cropped
from detkit.interfaces import Dataset
from detkit.ops.boxes import upright_boxes
from detkit.structures.sample import Sample
from detkit.structures.semantic_map import SemanticMap
from detkit.tiling import Tiling, Window

_ROUNDING = 1e-4  # of the share of an object that lies in a tile
_QUALITY = 95  # of JPEG files
_MADE = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "keypoints", "num_keypoints"}


class Tiles(Dataset):
    """The tiles of all images of a dataset, image after image and row by row. Only one image is in memory at a time:
    go through the tiles in their order.

    An object is in every tile in which at least `keep` of its area lies, of its mask where it has one; what of it lies
    outside is cut off. 0.7 is what DOTA's devkit asks for, and MMRotate. Rotated boxes are cut only if they are
    upright, as MMRotate does. Crowds are in all tiles that they reach into.

    Ids are names that say where a tile lies, NAME__1__LEFT___TOP, as DOTA's devkit at scale 1 writes them and its
    ResultMerge reads them. NAME is that of the file without its suffix; where several have it, with the image's own id
    before it.

    Args:
        dataset: is read image by image. Proposals of its images are left out.
        tiling: where tiles lie.
        keep: share of an object from which on it is in a tile, from 0 to 1.
        rest: what becomes of objects of which there is less: "drop" leaves them out, as DOTA's devkit and MMRotate do;
            "crowd" keeps what is inside as a crowd, which models do not learn and evaluators ignore.
        empty: whether there are tiles without objects.
        suffix: of encoded tiles: ".png", which loses nothing, or ".jpg", of a quality of 95.

    Raises:
        ValueError: `keep` is not from 0 to 1, or there is no tile with an object and no other is wanted.
    """

    def __init__(
        self,
        dataset: Dataset,
        tiling: Tiling | None = None,
        *,
        keep: float = 0.7,
        rest: Literal["drop", "crowd"] = "drop",
        empty: bool = True,
        suffix: Literal[".png", ".jpg"] = ".png",
    ) -> None:
        if not 0 <= keep <= 1 or rest not in ("drop", "crowd") or suffix not in (".png", ".jpg"):
            raise ValueError(
                f"keep is {keep}, rest {rest!r}, suffix {suffix!r}; a share from 0 to 1, 'drop' or 'crowd', and "
                "'.png' or '.jpg' are needed"
            )
        self.dataset, self.keep, self.rest, self.suffix = dataset, keep, rest, suffix
        self.categories = dataset.categories
        self.semantic_categories = dataset.semantic_categories
        self.has_panoptic = dataset.has_panoptic
        self.has_masks = dataset.has_masks
        self.rotated = dataset.rotated
        self._names = _names(dataset)
        self._sample = self._whole = self._part = self._pixels = _NOTHING
        tiling = tiling or Tiling()
        self._tiles: list[tuple[int, Window]] = [
            (image, window) for image in range(len(dataset)) for window in tiling.windows(*dataset.size(image))
        ]
        if not empty:
            self._tiles = [tile for index, tile in enumerate(list(self._tiles)) if len(self._cut_out(index)[1])]
            self._part = _NOTHING  # positions are others now
            if not self._tiles:
                raise ValueError("no tile has an object in it; keep the empty ones")
        self._positions = {self.image_id(index): index for index in range(len(self))}

    def __getstate__(self) -> dict[str, Any]:
        """Without the image that is in memory."""
        return {**self.__dict__, **dict.fromkeys(("_sample", "_whole", "_part", "_pixels"), _NOTHING)}

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        image, (left, top, right, bottom) = self._tiles[index]
        whole = self._read(image)
        pixels = whole.image.as_subclass(Tensor)[:, top:bottom, left:right].clone()
        target = self.target(index)
        if "semantic" in whole.target:
            target["semantic"] = SemanticMap(
                whole.target["semantic"].as_subclass(Tensor)[top:bottom, left:right].clone()
            )
        info = {"image_id": self.image_id(index), "path": self.dataset.place(image), "original_size": self.size(index)}
        return Sample(image=tv_tensors.Image(pixels), target=target, info=info)

    def _read(self, image: int) -> Sample:
        """The image at a position of the dataset."""
        if self._sample[0] != image:
            self._sample = (image, self.dataset[image])
        sample: Sample = self._sample[1]
        return sample

    def origin(self, index: int) -> tuple[int, Window]:
        """Of a tile: the position of its image in the dataset, and where it lies there."""
        return self._tiles[index]

    def size(self, index: int) -> tuple[int, int]:
        left, top, right, bottom = self._tiles[index][1]
        return bottom - top, right - left

    def image_id(self, index: int) -> str:
        image, (left, top, _, _) = self._tiles[index]
        return f"{self._names[image]}__1__{left}___{top}"

    def place(self, index: int) -> str:
        """What a file of the tile would be called."""
        folder = Path(self.dataset.place(self._tiles[index][0])).parent
        return str(folder / f"{self.image_id(index)}{self.suffix}")

    def encoded(self, index: int) -> bytes:
        """A file of the tile."""
        pixels, file = self[index].image.permute(1, 2, 0).numpy(), io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG" if self.suffix == ".png" else "JPEG", quality=_QUALITY)
        return file.getvalue()

    def labels(self, index: int) -> Tensor:
        found: Tensor = self._cut_out(index)[0]["labels"].clone()
        return found

    def target(self, index: int) -> dict[str, Any]:
        target = self._cut_out(index)[0]
        return {key: value.clone() if isinstance(value, Tensor) else value for key, value in target.items()}

    def rows(self, index: int) -> tuple[Tensor, Tensor]:
        """Of the objects of a tile, their positions (N,) int64 among those of their image, and which (N,) bool are
        cut."""
        _, rows, cut = self._cut_out(index)
        return rows, cut

    def _cut_out(self, index: int) -> tuple[dict[str, Any], Tensor, Tensor]:
        """The target of a tile, and `rows`."""
        if self._part[0] != index:
            self._part = (index, self._make(*self._tiles[index]))
        part: tuple[dict[str, Any], Tensor, Tensor] = self._part[1]
        return part

    def _make(self, image: int, window: Window) -> tuple[dict[str, Any], Tensor, Tensor]:
        left, top, right, bottom = window
        whole, bounds, pixels = self._annotations(image)
        near = (bounds[:, 0] < right) & (bounds[:, 2] > left) & (bounds[:, 1] < bottom) & (bounds[:, 3] > top)
        sample = select(_without_image(whole, self.dataset.size(image)), near)
        sample = cropped(sample, top, left, bottom - top, right - left)
        shares = visible_shares(sample)
        if pixels is not None:
            inside = sample.target["masks"].as_subclass(Tensor).sum(dim=(1, 2), dtype=torch.float32)
            shares = torch.where(pixels[near] > 0, inside / pixels[near].clamp(min=1), shares)
        sample.target |= {"row": near.nonzero()[:, 0], "share": shares}
        sample = cut_to_canvas(sample)
        little = sample.target["share"] < self.keep - _ROUNDING
        if self.rest == "drop":
            sample = select(sample, ~little | sample.target["crowd"])
        else:
            sample.target["crowd"] = sample.target["crowd"] | little
        rows, shares = sample.target.pop("row"), sample.target.pop("share")
        return sample.target, rows, shares < 1 - _ROUNDING

    def _annotations(self, image: int) -> tuple[dict[str, Any], Tensor, Tensor | None]:
        """Those of an image: its target, the upright boxes (N, 4) around all that it says of each object, and how many
        pixels (N,) bitmaps have."""
        if self._whole[0] != image:
            target = self.dataset.target(image)
            bounds, pixels = upright_boxes(target["boxes"].as_subclass(Tensor)), None
            if "polygons" in target:
                given, outlines = target["polygons"].present[:, None], target["polygons"].boxes()
                low, high = bounds[:, :2].minimum(outlines[:, :2]), bounds[:, 2:].maximum(outlines[:, 2:])
                bounds = torch.where(given, torch.cat((low, high), dim=1), bounds)
            if "masks" in target:
                pixels = target["masks"].as_subclass(Tensor).sum(dim=(1, 2), dtype=torch.float32)
            self._whole = (image, (target, bounds, pixels))
        found: tuple[dict[str, Any], Tensor, Tensor | None] = self._whole[1]
        return found

    def ground_truth(self) -> Any:
        """A COCO dict of the tiles. Objects have new ids; what else the dataset's own dict says of them, and of images,
        is said of each tile."""
        head, annotations = self.streamed_truth()
        return {**head, "annotations": list(annotations)}

    def streamed_truth(self) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        head, annotations = self.dataset.streamed_truth()
        said: dict[tuple[Any, int], dict[str, Any]] = {}
        for entry in annotations:
            if more := {key: value for key, value in entry.items() if key not in _MADE}:
                said[entry["image_id"], entry["id"]] = more
        images = {entry["id"]: entry for entry in head["images"]}
        entries = []
        for index, (image, _) in enumerate(self._tiles):
            own = images[self.dataset.image_id(image)]
            height, width = self.size(index)
            name = f"{self.image_id(index)}{self.suffix}"
            entry = {key: value for key, value in own.items() if not key.endswith("_url")}
            entries.append(entry | {"id": self.image_id(index), "file_name": name, "height": height, "width": width})
        return {**head, "images": entries}, self._entries(said)

    def _entries(self, said: Mapping[tuple[Any, int], dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The annotations of all tiles as COCO has them, with what is said of them besides."""
        number = 0
        for index, (image, _) in enumerate(self._tiles):
            target, rows, _ = self._cut_out(index)
            labels, crowd, areas = target["labels"].tolist(), target["crowd"].tolist(), mask_areas(target).tolist()
            boxes = target["boxes"].as_subclass(Tensor).tolist()
            masks = _segmentations(target, self.size(index))
            points = _keypoints(target["keypoints"].as_subclass(Tensor)) if "keypoints" in target else None
            ids = self.dataset.annotation_ids(image)
            for row, own in enumerate(rows.tolist()):
                number += 1
                entry = {
                    "id": number,
                    "image_id": self.image_id(index),
                    "category_id": self.categories.ids[labels[row]],
                    "bbox": _as_coco(boxes[row]),
                    "area": areas[row],
                    "iscrowd": int(crowd[row]),
                }
                if masks[row]:
                    entry["segmentation"] = masks[row]
                if points is not None:
                    entry |= points[row]
                if ids is not None:
                    entry |= said.get((self.dataset.image_id(image), int(ids[own])), {})
                yield entry

    def semantic_map(self, image_id: Any) -> Tensor:
        image, (left, top, right, bottom) = self._tiles[self._positions[image_id]]
        if self._pixels[0] != ("semantic", image):
            self._pixels = (("semantic", image), self.dataset.semantic_map(self.dataset.image_id(image)))
        labels: Tensor = self._pixels[1][top:bottom, left:right].clone()
        return labels

    def panoptic_map(self, image_id: Any) -> tuple[Tensor, list[dict[str, Any]]]:
        image, (left, top, right, bottom) = self._tiles[self._positions[image_id]]
        if self._pixels[0] != ("panoptic", image):
            self._pixels = (("panoptic", image), self.dataset.panoptic_map(self.dataset.image_id(image)))
        whole, segments = self._pixels[1]
        ids = whole[top:bottom, left:right].clone()
        areas = Counter(dict(zip(*(each.tolist() for each in ids.unique(return_counts=True)), strict=True)))
        return ids, [{**each, "area": areas[each["id"]]} for each in segments if areas[each["id"]]]


_NOTHING: tuple[Any, Any] = (None, None)
"""What was read last, and nothing was."""


def _names(dataset: Dataset) -> list[str]:
    """What images are called, each otherwise."""
    names = [Path(dataset.place(index)).stem for index in range(len(dataset))]
    if len(set(names)) == len(names):
        return names
    ids = [str(dataset.image_id(index)).replace("/", "_") for index in range(len(dataset))]
    return [f"{id}_{name}" for id, name in zip(ids, names, strict=True)]


def _without_image(target: dict[str, Any], size: tuple[int, int]) -> Sample:
    """A sample whose image takes no memory."""
    return Sample(tv_tensors.Image(torch.zeros(1, 1, 1, dtype=torch.uint8).expand(3, *size)), dict(target))


def _segmentations(target: Mapping[str, Any], size: tuple[int, int]) -> list[Any]:
    """The masks of objects as COCO has them, empty of those that have none."""
    found: list[Any] = [[] for _ in target["labels"]]
    if "polygons" in target:
        found = [[ring.ravel().tolist() for ring in rings] for rings in target["polygons"].rings()]
    if "masks" in target:
        for row, mask in enumerate(target["masks"].as_subclass(Tensor)):
            if not found[row] and bool(mask.any()):
                code = rle.encode(np.asfortranarray(mask.numpy()))
                found[row] = {"size": list(size), "counts": code["counts"].decode()}
    return found


def _keypoints(points: Tensor) -> list[dict[str, Any]]:
    """Those of objects (N, K, 3) as COCO has them, which counts from the centres of pixels."""
    known = points[..., 2] > 0
    centred = torch.where(known[..., None], points - points.new_tensor((0.5, 0.5, 0)), points).flatten(1).tolist()
    counts = known.sum(dim=1).tolist()
    return [{"keypoints": own, "num_keypoints": count} for own, count in zip(centred, counts, strict=True)]


def _as_coco(box: list[float]) -> list[float]:
    """A box in COCO's form: x, y, width, height; rotated ones as they are."""
    return box if len(box) == 5 else [box[0], box[1], box[2] - box[0], box[3] - box[1]]
