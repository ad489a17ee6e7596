"""What a plugin provides: components, which are data until somebody asks for one by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

API_VERSION = 1
"""Version of the plugin contract. New hooks, kinds and optional arguments do not change it; changed meanings do."""

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "detector": "a whole model: images in, losses or predictions out",
        "backbone": "images to feature maps",
        "neck": "feature maps to feature maps",
        "proposal_generator": "feature maps to candidate boxes",
        "roi_head": "regions of interest to boxes, masks, keypoints",
        "roi_trunk": "layers on pooled regions that all ROI heads share",
        "semantic_head": "feature maps to a class for every pixel",
        "weights": "published weights of a backbone or a model",
        "dataset": "a reader of one annotation format",
        "dataset_writer": "datasets to files of one annotation format",
        "sampler": "how often training sees each image",
        "transform": "a step of training augmentation",
        "evaluator": "predictions to metrics",
        "optimizer": "parameters to a torch optimizer",
        "schedule": "the learning rate over the steps",
        "callback": "an observer of training, listed in a config",
        "tracker": "a receiver of curves",
        "checkpoint_format": "a converter from somebody else's weights",
        "detectron2_mapping": "what a name in Detectron2's configs means, for det-detectron2",
        "recipe": "a config file that can be trained by its name",
        "command": "a subcommand of `detkit`",
        "exporter": "a model to another runtime's format",
        "uri_scheme": "a reader of addresses such as s3://",
        "op": "a faster implementation of an operator that core declares",
    }
)
"""Every kind of component, with what it does."""

_NAME = re.compile(r"([a-z0-9][a-z0-9_.-]*/)?[a-z0-9][a-z0-9_.-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[\w./-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A named thing that a distribution provides.

    Args:
        kind: one of `KINDS`.
        name: lower case; a third party prefixes its names: "acme/swin".
        target: "package.module:attribute", imported when a config asks for the name; for a recipe
            "package:folder/file.yaml", a file in that package.
        summary: one line for lists.
        member: makes it a family: the argument of the target that takes what follows the name and a slash.
            {name: zoo/lion} is {name: zoo, model: lion} if "zoo" has the member "model".

    Raises:
        ValueError: an unknown kind, or a malformed name or target.
    """

    kind: str
    name: str
    target: str
    summary: str = ""
    member: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"component {self.name!r} is of kind {self.kind!r}, which this det-core (plugin API {API_VERSION}) "
                f"does not know; it knows: {', '.join(KINDS)}"
            )
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.kind} {self.name!r}: a name is lower-case letters, digits, '-', '_' and '.', with at most one "
                "prefix, as in 'acme/swin'"
            )
        if not _TARGET.fullmatch(self.target):
            wanted = "'package:folder/file.yaml'" if self.kind == "recipe" else "'package.module:attribute'"
            raise ValueError(f"{self.kind} {self.name!r} has the target {self.target!r}; it must look like {wanted}")
