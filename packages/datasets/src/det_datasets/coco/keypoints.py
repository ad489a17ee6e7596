"""Keypoints in COCO files: what they are called, and the numbers of each instance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from det_datasets.coco.schema import CategoryEntry
from detkit.structures.coco import PERSON_KEYPOINTS
from detkit.structures.keypoints import Keypoints

PIXEL_CENTRE = 0.5
"""COCO's keypoints are indices of pixels, whose centres lie half a pixel further in the plane."""

MALFORMED = -1
"""In place of how many numbers an annotation's keypoints have, where they are something else."""

NUMBERS = msgspec.json.Decoder(list[float] | None)
_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))


def find_keypoints(
    categories: Sequence[CategoryEntry], given: Mapping[str, Any] | None, problems: Counter[str]
) -> Keypoints | None:
    """The keypoints of a file: those of its categories, which must be the same for all that have any, changed as
    `given` says.

    Keypoints whose names differ in left and right swap places when an image is mirrored, unless a category has `swaps`.
    The 17 of COCO's persons have COCO's sigmas, others those of the `sigmas` that a category may have.

    Args:
        categories: of the file.
        given: `names`, `swaps` and `skeleton` (index pairs from 0) and `sigmas`, each instead of what the file says.
        problems: where it is counted that categories have different keypoints, which are then not read.

    Raises:
        ValueError: `given` has other keys, or keypoints make no sense.
    """
    given = dict(given or {})
    if unknown := sorted(set(given) - {"names", "swaps", "skeleton", "sigmas"}):
        raise ValueError(f"keypoints has {', '.join(unknown)}; names, swaps, skeleton and sigmas can be given")
    described = [entry for entry in categories if entry.keypoints]
    if len({tuple(entry.keypoints or ()) for entry in described}) > 1 and "names" not in given:
        listed = ", ".join(entry.name for entry in described)
        problems[f"categories with different keypoints, none of which are read: {listed}"] = len(described)
        return None
    found = described[0] if described else CategoryEntry(id=0, name="")
    names: tuple[str, ...] = tuple(given.get("names", found.keypoints or ()))
    if not names:
        if given:
            raise ValueError("the file's categories have no keypoints, so that their names must be given too")
        return None
    known = PERSON_KEYPOINTS if names == PERSON_KEYPOINTS.names else None
    skeleton = [(a - 1, b - 1) for a, b in found.skeleton or ()]
    pairs = _mirrored(names) if found.swaps is None else [(a - 1, b - 1) for a, b in found.swaps]
    return Keypoints(
        names,
        swaps=tuple(given.get("swaps", pairs)),
        skeleton=tuple(given.get("skeleton", skeleton or (known.skeleton if known else ()))),
        sigmas=tuple(given.get("sigmas", found.sigmas or (known.sigmas if known else ()))),
    )


def description(keypoints: Keypoints) -> dict[str, Any]:
    """What an entry of `categories` says of its keypoints, so that `find_keypoints` finds the same."""
    sigmas = {"sigmas": list(keypoints.sigmas)} if keypoints.sigmas else {}
    pairs = {name: [[a + 1, b + 1] for a, b in getattr(keypoints, name)] for name in ("skeleton", "swaps")}
    return {"keypoints": list(keypoints.names), **pairs, **sigmas}


def _mirrored(names: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs of names that are the same but for left and right."""
    others = ((name.replace(left, right), index) for index, name in enumerate(names) for left, right in _SIDES)
    return [(index, names.index(other)) for other, index in others if other != names[index] and other in names]


def read_points(raw: msgspec.Raw, count: int) -> list[float] | None:
    """The `keypoints` of an annotation as x, y, visibility of each, in the plane; None if they are malformed, zeros if
    there are none."""
    try:
        numbers = np.array(NUMBERS.decode(raw) or [0.0] * (3 * count))
    except msgspec.ValidationError:
        return None
    if len(numbers) != 3 * count or not np.isfinite(numbers).all() or not np.isin(numbers[2::3], (0, 1, 2)).all():
        return None
    points = numbers.reshape(count, 3)
    points[:, :2] += PIXEL_CENTRE
    points[points[:, 2] == 0] = 0
    return points.ravel().tolist()


def points_in_plane(numbers: NDArray[np.float64], sizes: NDArray[np.int64], count: int) -> tuple[NDArray[Any], int]:
    """Keypoints (A, count, 3) float32 of annotations with so many numbers each (A,), MALFORMED among them, one after
    the other in `numbers`; zeros where there are none or they are malformed, and how many are."""
    lengths = np.maximum(sizes, 0)
    fits = sizes == 3 * count
    given = numbers[np.repeat(fits, lengths)].reshape(-1, count, 3)
    good = np.isfinite(given).all((1, 2)) & np.isin(given[..., 2], (0, 1, 2)).all(1)
    given[..., :2] += PIXEL_CENTRE
    given[given[..., 2] == 0] = 0
    points = np.zeros((len(sizes), count, 3), np.float32)
    points[np.flatnonzero(fits)[good]] = given[good]
    return points, int((sizes != 0).sum() - good.sum())


def labelled(numbers: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many keypoints of each annotation are labelled, of numbers and sizes as in `points_in_plane`."""
    lengths = np.maximum(sizes, 0)
    place = np.arange(len(numbers)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    visible = (place % 3 == 2) & (numbers > 0)
    return np.bincount(np.repeat(np.arange(len(sizes)), lengths)[visible], minlength=len(sizes))
