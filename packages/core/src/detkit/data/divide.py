"""Dividing a dataset into parts."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from torch import Tensor

from detkit.interfaces import Dataset


def divide(
    dataset: Dataset,
    shares: Mapping[str, float],
    *,
    seed: int = 0,
    by_class: bool = True,
    groups: Sequence[str] | None = None,
) -> dict[str, list[int]]:
    """Divide the images among parts, the same way each time for one seed.

    With `by_class`, each part gets its share of the images of every class, the rarest first: iterative stratification
    (Sechidis, Tsoumakas, Vlahavas 2011).

    Args:
        dataset: is asked for the labels alone.
        shares: part -> its share of the images; positive.
        seed: of the order in which images that are alike are dealt out.
        by_class: see above; otherwise images are drawn at random.
        groups: of each image; images of one group stay together.

    Returns:
        part -> positions of its images, rising.

    Raises:
        ValueError: a share is not positive, or a part would be empty.
    """
    if not shares or min(shares.values()) <= 0:
        raise ValueError(f"parts are {dict(shares)}; shares above 0 are needed")
    members: dict[str, list[int]] = defaultdict(list)
    for index in range(len(dataset)):
        members[groups[index] if groups is not None else str(index)].append(index)
    labels = _classes(*dataset.all_labels(), len(dataset)) if by_class else [()] * len(dataset)
    images = list(members.values())
    random.Random(seed).shuffle(images)
    images.sort(key=len, reverse=True)  # small groups fill what large ones leave
    counts = [Counter(label for index in group for label in labels[index]) for group in images]
    found = _dealt([len(group) for group in images], counts, list(shares.values()))
    parts: dict[str, list[int]] = {name: [] for name in shares}
    names = list(shares)
    for group, part in zip(images, found, strict=True):
        parts[names[part]] += group
    if empty := [name for name in names if not parts[name]]:
        what = f"{len(images)} groups of images" if groups is not None else f"{len(dataset)} images"
        raise ValueError(f"nothing is left for {', '.join(empty)}: there are {what}; give it a larger share")
    return {name: sorted(positions) for name, positions in parts.items()}


def _classes(images: Tensor, labels: Tensor, count: int) -> list[tuple[int, ...]]:
    """The classes in each image."""
    found: list[set[int]] = [set() for _ in range(count)]
    for image, label in zip(images.tolist(), labels.tolist(), strict=True):
        found[image].add(label)
    return [tuple(sorted(each)) for each in found]


def _dealt(sizes: Sequence[int], counts: Sequence[Counter[int]], shares: Sequence[float]) -> list[int]:
    """The part of each group, of so many images in all and of each class."""
    whole = sum(shares)
    shares = [share / whole for share in shares]
    left: Counter[int] = sum(counts, Counter())  # not dealt out yet, of each class
    wanted = {label: [count * share for share in shares] for label, count in left.items()}
    room = [sum(sizes) * share for share in shares]
    holders: dict[int, list[int]] = defaultdict(list)
    for group, count in enumerate(counts):
        for label in count:
            holders[label].append(group)
    found = [-1] * len(sizes)

    def deal(group: int, label: int | None) -> None:
        want = room if label is None else wanted[label]
        part = max(range(len(shares)), key=lambda each: (round(want[each], 9), round(room[each], 9), -each))
        found[group] = part
        room[part] -= sizes[group]
        for each, count in counts[group].items():
            wanted[each][part] -= count
            left[each] -= count

    while remaining := [label for label, count in left.items() if count > 0]:
        rarest = min(remaining, key=lambda label: (left[label], label))
        for group in holders[rarest]:
            if found[group] < 0:
                deal(group, rarest)
    for group in range(len(sizes)):
        if found[group] < 0:
            deal(group, None)
    return found
