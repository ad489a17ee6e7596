"""What the keypoints of a dataset are called, and how they belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Keypoints:
    """The keypoints that every instance has, in the order of their index.

    Args:
        names: "nose", "left eye", ...
        swaps: index pairs that change places when an image is flipped left to right.
        skeleton: index pairs to connect in drawings.
        sigmas: of object keypoint similarity, one for each keypoint: how far annotators disagree, in units of the
            square root of the object's area; empty where nobody has measured them.

    Raises:
        ValueError: a name repeats, an index is out of range, or the sigmas are not one for each name.
    """

    names: tuple[str, ...]
    swaps: tuple[tuple[int, int], ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "sigmas", tuple(self.sigmas))
        for what in ("swaps", "skeleton"):
            pairs = tuple((int(a), int(b)) for a, b in getattr(self, what))
            outside = [pair for pair in pairs if not all(0 <= index < len(self.names) for index in pair)]
            if outside:
                raise ValueError(f"{what} holds {outside[0]}; there are {len(self.names)} keypoints, counted from 0")
            object.__setattr__(self, what, pairs)
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"a keypoint's name is given twice: {', '.join(self.names)}")
        if self.sigmas and len(self.sigmas) != len(self.names):
            raise ValueError(f"{len(self.names)} keypoints but {len(self.sigmas)} sigmas; give one for each")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def flipped(self) -> list[int]:
        """For each keypoint the index of the one that takes its place in a flipped image."""
        order = list(range(len(self.names)))
        for a, b in self.swaps:
            order[a], order[b] = b, a
        return order

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON; `from_dict` reads them back."""
        return {
            "names": list(self.names),
            "swaps": [list(pair) for pair in self.swaps],
            "skeleton": [list(pair) for pair in self.skeleton],
            "sigmas": list(self.sigmas),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Keypoints:
        return cls(
            tuple(data["names"]),
            tuple((a, b) for a, b in data.get("swaps", ())),
            tuple((a, b) for a, b in data.get("skeleton", ())),
            tuple(data.get("sigmas", ())),
        )
