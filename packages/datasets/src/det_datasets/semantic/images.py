"""Images of which pixels alone are labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from det_datasets.annotated import AnnotatedImages
from det_datasets.columns import Columns, ColumnsBuilder
from det_datasets.pixels import PixelLabels
from detkit.structures.categories import Categories

NO_CLASSES = Categories(())


class LabelledImages(AnnotatedImages):
    """Images without objects, whose pixels have labels.

    Args:
        source: what the annotations come from, for messages.
        images: folder that the names of files are relative to.
        columns: the images.
        pixels: their labels.
    """

    def __init__(self, *, source: Path, images: Path | str, columns: Columns, pixels: PixelLabels) -> None:
        super().__init__(
            source=source, images=images, columns=columns, categories=NO_CLASSES, problems=Counter(), pixels=pixels
        )


def columns_of(images: Iterable[tuple[int | str, str, int, int]]) -> Columns:
    """Columns of images, each an id, the name of its file, its height and its width, in the order of the ids."""
    builder = ColumnsBuilder()
    for image in images:
        builder.image(*image)
    return builder.build()
