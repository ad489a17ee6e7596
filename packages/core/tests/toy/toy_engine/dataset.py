from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision import tv_tensors

from detkit.interfaces import Dataset
from detkit.structures.categories import Categories
from detkit.structures.sample import Sample


class ToyDataset(Dataset):
    """Bright rectangles on noise. Image `broken` has a white corner, which makes the detector's loss NaN."""

    layout = "nothing on disk: a YAML file names it"

    def __init__(
        self,
        *,
        images: int = 16,
        side: int = 32,
        seed: int = 0,
        broken: int | None = None,
        classes: Sequence[str] = ("red", "green"),
    ) -> None:
        self.categories = Categories(names=tuple(classes), ids=(3, 7))
        self._images = images
        self._side = side
        self._seed = seed
        self._broken = broken

    def __len__(self) -> int:
        return self._images

    def size(self, index: int) -> tuple[int, int]:
        return self._side, self._side

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(self._seed * 100_000 + index)
        image = torch.randint(0, 60, (3, self._side, self._side), dtype=torch.uint8, generator=generator)
        corner = torch.randint(0, self._side // 2, (2,), generator=generator).tolist()
        extent = torch.randint(self._side // 4, self._side // 2, (2,), generator=generator).tolist()
        label = int(torch.randint(0, 2, (1,), generator=generator))
        x1, y1, x2, y2 = corner[0], corner[1], corner[0] + extent[0], corner[1] + extent[1]
        image[label, y1:y2, x1:x2] = 230
        box = torch.tensor([[x1, y1, x2, y2]], dtype=torch.float32)
        if index == self._broken:
            image[:, 0, 0] = 255
        return Sample(
            image=tv_tensors.Image(image),
            target={
                "boxes": tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=(self._side, self._side)),
                "labels": torch.tensor([label]),
                "crowd": torch.tensor([False]),
            },
            info={"image_id": 1000 + index, "path": f"toy/{index}.jpg", "original_size": (self._side, self._side)},
        )

    def ground_truth(self) -> dict[int, torch.Tensor]:
        """Image id -> box (4,)."""
        return {1000 + index: self[index].target["boxes"][0].as_subclass(torch.Tensor) for index in range(len(self))}
