"""Several datasets as one, their classes merged by name."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain, count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.interfaces import Dataset
from detkit.structures.categories import Categories
from detkit.structures.polygons import Polygons
from detkit.structures.sample import Sample

log = logging.getLogger(__name__)

_LISTS_OF_CATEGORIES = ("neg_category_ids", "not_exhaustive_category_ids")  # of an image, in LVIS
_KEPT_OF_CATEGORIES = ("supercategory", "frequency", "keypoints", "skeleton", "swaps", "sigmas")


@dataclass(frozen=True)
class Member:
    """One dataset of a mixture.

    Args:
        name: what it is called in messages and in the ids of its images.
        dataset: its images.
        weight: its share of the samples in training, relative to those of the others; None for the share of its size.
        rename: its own name of a class -> the name that the class has in the mixture.
    """

    name: str
    dataset: Dataset
    weight: float | None = None
    rename: Mapping[str, str] = field(default_factory=dict)


class Mixture(Dataset):
    """The images of several datasets, one dataset after the other.

    Classes are the same where their names are, upper and lower case alike; classes keep their ids unless another class
    has the id already. Objects of a class that a member does not annotate count as background there: a warning lists
    such classes. Where some members have masks and others have none, the objects of the others have `has_mask` False.

    The id of an image is "MEMBER/ID", ID being the dataset's own: "coco/139"; a single member's images keep theirs.

    Args:
        members: the datasets; either all of them have a weight or none has.
        categories: the classes of the mixture, among which those of all members must be; by default those of the first
            member, and then those of each further one that are new.

    Raises:
        ValueError: members do not go together: in keypoints, classes of pixels, proposals, or the kind of their boxes;
            or a class cannot be told from another.
    """

    def __init__(self, members: Sequence[Member], *, categories: Categories | None = None) -> None:
        self.members = tuple(members)
        _check(self.members)
        first = self.members[0].dataset
        names = [_renamed(member) for member in self.members]
        self.categories = _merged(self.members, names) if categories is None else categories
        self.semantic_categories = first.semantic_categories
        self.has_panoptic = first.has_panoptic
        self.has_masks = any(member.dataset.has_masks for member in self.members)
        self.rotated = first.rotated
        self._labels = [_labels(member, own, self.categories) for member, own in zip(self.members, names, strict=True)]
        self._ends = list(accumulate(len(member.dataset) for member in self.members))
        self.problems: Counter[str] = Counter()
        for member, labels in zip(self.members, self._labels, strict=True):
            self.problems.update({f"{member.name}: {what}": number for what, number in member.dataset.problems.items()})
            self._note_missing(member, labels)

    def _note_missing(self, member: Member, labels: Tensor) -> None:
        there = set(labels.tolist())
        missing = [name for label, name in enumerate(self.categories.names) if label not in there]
        if missing:
            log.warning(
                "%s does not annotate %s: such objects count as background in its images",
                member.name,
                ", ".join(missing),
            )
            listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            self.problems[f"{member.name}: classes that it does not annotate: {listed}"] = len(missing)

    @property
    def evaluators(self) -> Sequence[str]:
        """Those that all members have."""
        others = [member.dataset.evaluators for member in self.members[1:]]
        return [name for name in self.members[0].dataset.evaluators if all(name in other for other in others)]

    @property
    def has_proposals(self) -> bool:
        return self.members[0].dataset.has_proposals

    def __len__(self) -> int:
        return self._ends[-1]

    def _place(self, index: int) -> tuple[int, int]:
        """The number of the member, and the position of the image in it."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)

    def origin(self, index: int) -> tuple[Dataset, int]:
        """The dataset that an image is of, and its position there."""
        number, own = self._place(index)
        return self.members[number].dataset, own

    def __getitem__(self, index: int) -> Sample:
        number, own = self._place(index)
        member = self.members[number]
        sample = member.dataset[own]
        target = {**sample.target, "labels": self._labels[number][sample.target["labels"]]}
        if self.has_masks:
            objects = len(target["labels"])
            has = "polygons" in target or "masks" in target
            if not has:
                canvas = (int(sample.image.shape[-2]), int(sample.image.shape[-1]))
                target["polygons"] = Polygons.from_rings([[]] * objects, canvas)
            target.setdefault("has_mask", torch.full((objects,), has))
        info = {**sample.info, "image_id": self._id(member, sample.info["image_id"])}
        return Sample(image=sample.image, target=target, info=info)

    def size(self, index: int) -> tuple[int, int]:
        number, own = self._place(index)
        return self.members[number].dataset.size(own)

    def sizes(self) -> Tensor:
        return torch.cat([member.dataset.sizes() for member in self.members])

    def image_id(self, index: int) -> int | str:
        number, own = self._place(index)
        return self._id(self.members[number], self.members[number].dataset.image_id(own))

    def _id(self, member: Member, own: Any) -> int | str:
        return own if len(self.members) == 1 else f"{member.name}/{own}"

    def own_id(self, image_id: int | str) -> tuple[str, int | str]:
        """The member that an image is of, and the image's own id there.

        Raises:
            ValueError: there is no such member.
        """
        if len(self.members) == 1:
            return self.members[0].name, image_id
        name, _, text = str(image_id).partition("/")
        member = self._member(name)
        numbers = len(member.dataset) and isinstance(member.dataset.image_id(0), int)
        return name, int(text) if numbers else text

    def _member(self, name: str) -> Member:
        found = [member for member in self.members if member.name == name]
        if not found:
            raise ValueError(f"{name!r} is no dataset of this mixture of {_listed(self.members)}")
        return found[0]

    def labels(self, index: int) -> Tensor:
        number, own = self._place(index)
        return self._labels[number][self.members[number].dataset.labels(own)]

    def all_labels(self) -> tuple[Tensor, Tensor]:
        images, labels = [], []
        for start, own, member in zip([0, *self._ends[:-1]], self._labels, self.members, strict=True):
            its_images, its_labels = member.dataset.all_labels()
            images.append(its_images + start)
            labels.append(own[its_labels])
        return torch.cat(images), torch.cat(labels)

    def weighted(self, repeats: NDArray[np.float64]) -> NDArray[np.float64]:
        """Repeats (I,) of all images, scaled so that those of each member come to its share of their sum; as they are
        where there are no weights.

        Raises:
            ValueError: a member that has a weight has no image that is seen.
        """
        if self.members[0].weight is None:
            return repeats
        total = repeats.sum() / sum(member.weight or 0.0 for member in self.members)
        parts = []
        for part, member in zip(np.split(repeats, self._ends[:-1]), self.members, strict=True):
            if not part.sum() > 0:
                raise ValueError(
                    f"the dataset {member.name} has a weight, and none of its images is seen; leave it out"
                )
            parts.append(part * (total * (member.weight or 0.0) / part.sum()))
        return np.concatenate(parts)

    def semantic_map(self, image_id: Any) -> Tensor:
        name, own = self.own_id(image_id)
        return self._member(name).dataset.semantic_map(own)

    def panoptic_map(self, image_id: Any) -> tuple[Tensor, list[dict[str, Any]]]:
        name, own = self.own_id(image_id)
        number = self.members.index(self._member(name))
        ids, segments = self.members[number].dataset.panoptic_map(own)
        labels = self._labels[number].tolist()
        return ids, [
            {**segment, "label": labels[segment["label"]]} if segment["isthing"] else segment for segment in segments
        ]

    def ground_truth(self) -> Any:
        """The members' COCO dicts as one, with the ids of images and categories that they have in the mixture. An
        annotation keeps its id, unless one before has it: then it gets a new one, and its own is its `own_id`.

        Raises:
            ValueError: the ground truth of a member is of another form.
        """
        head, merged = self._merged_truth()
        annotations = list(merged)
        last = max((entry["id"] for entry in annotations), default=0)
        return {**head, "annotations": list(_renumbered(annotations, last))}

    def streamed_truth(self) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        _, annotations = self._merged_truth()
        last = max((entry["id"] for entry in annotations), default=0)
        head, annotations = self._merged_truth()
        return head, _renumbered(annotations, last)

    def _merged_truth(self) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        """See `ground_truth`; annotations with their own ids."""
        images: list[dict[str, Any]] = []
        parts: list[Iterator[dict[str, Any]]] = []
        known: dict[int, dict[str, Any]] = {}
        for member, labels in zip(self.members, self._labels, strict=True):
            try:
                head, annotations = member.dataset.streamed_truth()
            except ValueError as error:
                raise ValueError(
                    f"{member.name} cannot be merged with others: {error}; evaluate on this dataset alone"
                ) from None
            own = member.dataset.categories
            ids = {id: self.categories.ids[label] for id, label in zip(own.ids, labels.tolist(), strict=True)}
            for entry in head["images"]:
                lists = {key: [ids[id] for id in entry[key]] for key in _LISTS_OF_CATEGORIES if key in entry}
                images.append({**entry, **lists, "id": self._id(member, entry["id"])})
            parts.append(map(partial(self._here, member, ids), annotations))
            for entry in head["categories"]:
                known.setdefault(ids[entry["id"]], entry)
        categories = []
        for id, name in zip(self.categories.ids, self.categories.names, strict=True):
            more = {key: value for key, value in known.get(id, {}).items() if key in _KEPT_OF_CATEGORIES}
            categories.append({"id": id, "name": name, **more})
        return {"images": images, "categories": categories}, chain.from_iterable(parts)

    def _here(self, member: Member, ids: Mapping[int, int], entry: dict[str, Any]) -> dict[str, Any]:
        """A member's annotation with the ids of image and category that these have here."""
        named = {"image_id": self._id(member, entry["image_id"]), "category_id": ids[entry["category_id"]]}
        return {**entry, **named}


def _check(members: Sequence[Member]) -> None:
    if not members:
        raise ValueError("a mixture needs at least one dataset")
    names = [member.name for member in members]
    if len(set(names)) < len(names) or any("/" in name or not name for name in names):
        raise ValueError(f"the datasets of a mixture are called {', '.join(names)}; names must differ and have no '/'")
    weights = [member.weight for member in members]
    if len({weight is None for weight in weights}) > 1:
        raise ValueError(
            f"some datasets of {_listed(members)} have a weight and some have none; give it to all or to none"
        )
    if any(weight is not None and not 0 < weight < float("inf") for weight in weights):
        raise ValueError(f"the weights of {_listed(members)} are {weights}; each must be above 0")
    first = members[0]
    for member in members[1:]:
        for what, one, other in (
            ("keypoints", first.dataset.categories.keypoints, member.dataset.categories.keypoints),
            ("classes of pixels", first.dataset.semantic_categories, member.dataset.semantic_categories),
            ("kind of boxes", first.dataset.rotated, member.dataset.rotated),
            ("panoptic segments", first.dataset.has_panoptic, member.dataset.has_panoptic),
        ):
            if one != other:
                raise ValueError(f"{first.name} and {member.name} do not have the same {what}, so they cannot be mixed")
        if first.dataset.has_proposals != member.dataset.has_proposals:
            some, none = (first, member) if first.dataset.has_proposals else (member, first)
            raise ValueError(
                f"{some.name} has proposals and {none.name} has none; give a file of `proposals` to each or to none"
            )


def _renamed(member: Member) -> list[str]:
    """The names that a member's classes have in the mixture, by label."""
    own = member.dataset.categories
    if strangers := [name for name in member.rename if own.label_of_name(name) is None]:
        raise ValueError(
            f"{member.name}: rename has {', '.join(strangers)}, which are not among its classes: {', '.join(own.names)}"
        )
    return [member.rename.get(name, name) for name in own.names]


def _merged(members: Sequence[Member], names: Sequence[Sequence[str]]) -> Categories:
    """The classes of all members, those of the first in their order, then those that are new."""
    merged: dict[str, tuple[str, int, str]] = {}  # by name without case: name, id, supercategory
    taken: set[int] = set()
    free = count(1 + max((id for member in members for id in member.dataset.categories.ids), default=0))
    for member, own in zip(members, names, strict=True):
        categories = member.dataset.categories
        groups = categories.supercategories or ("",) * len(categories)
        for name, id, group in zip(own, categories.ids, groups, strict=True):
            if name.casefold() not in merged:
                new = next(free) if id in taken else id
                merged[name.casefold()] = (name, new, group)
                taken.add(new)
    listed, ids, supercategories = zip(*merged.values(), strict=True) if merged else ((), (), ())
    keypoints = members[0].dataset.categories.keypoints
    return Categories(listed, ids, supercategories if any(supercategories) else (), keypoints)


def _labels(member: Member, names: Sequence[str], categories: Categories) -> Tensor:
    """(own classes,) the label in the mixture of each class of a member."""
    found: dict[int, str] = {}
    labels = []
    for own, name in zip(member.dataset.categories.names, names, strict=True):
        label = categories.label_like(name)
        if label is None:
            raise ValueError(f"{member.name} has the class {name}, which is not among {', '.join(categories.names)}")
        if label in found and own not in member.rename and found[label] not in member.rename:
            raise ValueError(
                f"{member.name}: its classes {found[label]} and {own} have one name but for upper and lower case; "
                "`rename` one of them"
            )
        found[label] = own
        labels.append(label)
    return torch.tensor(labels, dtype=torch.int64)


def _renumbered(annotations: Iterable[dict[str, Any]], last: int) -> Iterator[dict[str, Any]]:
    """The annotations, with new ids, above the `last` that there is, where another one before has their id."""
    seen: set[int] = set()
    free = count(last + 1)
    for entry in annotations:
        if entry["id"] in seen:
            entry["own_id"], entry["id"] = entry["id"], next(free)
        seen.add(entry["id"])
        yield entry


def _listed(members: Sequence[Member]) -> str:
    return ", ".join(member.name for member in members)
