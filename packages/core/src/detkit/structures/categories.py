"""Class names, and the ids that a dataset gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detkit.structures.keypoints import Keypoints


@dataclass(frozen=True)
class Categories:
    """The classes of a model or a dataset, in the order of their contiguous labels.

    Inside detkit a class is its label: 0, 1, ... len - 1. `ids` are what the dataset's own files call them (1-based,
    with gaps, whatever they are); they come back in every result file.

    Args:
        names: unique class names, label 0 first.
        ids: the dataset's own ids, one for each name; 1, 2, ... by default, as COCO-style files count.
        supercategories: one for each name, or empty.
        keypoints: those of the instances, where the dataset has them.

    Raises:
        ValueError: names or ids repeat, or their counts differ.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] = ()
    supercategories: tuple[str, ...] = ()
    keypoints: Keypoints | None = None
    _label_of_id: dict[int, int] = field(init=False, repr=False, compare=False)
    _label_of_name: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "ids", tuple(self.ids) or tuple(range(1, len(self.names) + 1)))
        object.__setattr__(self, "supercategories", tuple(self.supercategories))
        if len(self.ids) != len(self.names):
            raise ValueError(f"{len(self.names)} category names but {len(self.ids)} ids; give one id for each name")
        if self.supercategories and len(self.supercategories) != len(self.names):
            raise ValueError(f"{len(self.names)} category names but {len(self.supercategories)} supercategories")
        for what, values in (("name", self.names), ("id", self.ids)):
            repeated = sorted({str(value) for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(f"category {what} given more than once: {', '.join(repeated)}; each must be unique")
        object.__setattr__(self, "_label_of_id", {id: label for label, id in enumerate(self.ids)})
        object.__setattr__(self, "_label_of_name", {name: label for label, name in enumerate(self.names)})

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_coco(cls, entries: Sequence[Mapping[str, Any]]) -> Categories:
        """From the `categories` list of a COCO-style file, ordered by id."""
        ordered = sorted(entries, key=lambda entry: entry["id"])
        groups = tuple(str(entry.get("supercategory") or "") for entry in ordered)
        return cls(
            names=tuple(str(entry["name"]) for entry in ordered),
            ids=tuple(int(entry["id"]) for entry in ordered),
            supercategories=groups if any(groups) else (),
        )

    @classmethod
    def numbered(cls, count: int, noun: str = "class") -> Categories:
        """Categories without names: "class 1" ... "class COUNT"."""
        return cls(names=tuple(f"{noun} {number}" for number in range(1, count + 1)))

    def label_of_id(self, id: int) -> int:
        """The contiguous label of a dataset's id; KeyError if the dataset does not define it."""
        return self._label_of_id[id]

    def label_of_name(self, name: str) -> int | None:
        """The contiguous label of a name, None if there is no such class."""
        return self._label_of_name.get(name)

    def label_like(self, name: str) -> int | None:
        """The label of another model's or dataset's class: of the same name, else of one that differs from it only in
        upper and lower case; None if there is no such class."""
        label = self._label_of_name.get(name)
        if label is None:
            folded = [other.casefold() for other in self.names]
            label = folded.index(name.casefold()) if name.casefold() in folded else None
        return label

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON; `from_dict` reads them back."""
        data: dict[str, Any] = {"names": list(self.names), "ids": list(self.ids)}
        if self.supercategories:
            data["supercategories"] = list(self.supercategories)
        if self.keypoints:
            data["keypoints"] = self.keypoints.to_dict()
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Categories:
        keypoints = Keypoints.from_dict(data["keypoints"]) if "keypoints" in data else None
        return cls(tuple(data["names"]), tuple(data["ids"]), tuple(data.get("supercategories", ())), keypoints)
