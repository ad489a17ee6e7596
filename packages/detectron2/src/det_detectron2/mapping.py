"""What a name in Detectron2's configs means: the extension point for projects that bring heads, backbones and
architectures of their own.

A plugin registers a mapping for each name that Detectron2's registries know its parts by, in lower case:

    Component(kind="detectron2_mapping", name="pointrendmaskhead", target="det_pointrend.detectron2:MASK_HEAD")

It is imported when a config has that name, and never otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from detkit.foreign import rename
from detkit.plugins import PluginInfo, registry

if TYPE_CHECKING:
    from det_detectron2.config import Detectron2Config
    from det_detectron2.lazy import Call, Keys

KIND = "detectron2_mapping"


@dataclass(frozen=True, kw_only=True)
class Detectron2Mapping:
    """How configs and checkpoints of one named part are read. It can be called with a config, for the part's tree.

    What the tree is of depends on the key that has the name:

    | key | tree |
    |---|---|
    | `MODEL.META_ARCHITECTURE` | the `model` section, with `num_classes` and `num_semantic_classes` where there are |
    | `MODEL.BACKBONE.NAME` | {"backbone": ..., "neck": ...} |
    | `MODEL.PROPOSAL_GENERATOR.NAME` | the proposal generator |
    | `MODEL.ROI_HEADS.NAME` | {"heads": {...}, "sampling": {...}}, and `roi_pooling` and `roi_trunk` where there are |
    | `MODEL.ROI_MASK_HEAD.NAME`, `MODEL.ROI_KEYPOINT_HEAD.NAME` | the head, with what it pools |
    | `MODEL.SEM_SEG_HEAD.NAME` | the semantic head |

    The functions of this package for parts of Detectron2's core (`det_detectron2.backbones.backbone_and_neck`,
    `rcnn.model_tree`, `roi_heads.standard_heads`, `semantic.semantic_head`, ...) are there to build on.

    Args:
        tree: config -> component tree.
        names: Detectron2's names of the part's arrays, as regular expressions, and ours; `{N-1}` counts from 0 what
            Detectron2 counts from 1. They come before those of the parts around it.
        derived: arrays that follow from the config and are left out.
        initial: arrays of ours that Detectron2 does not save, which stay as a new model has them.
        fit: (arrays under our names, those of a new model) -> arrays as ours, where one of theirs is several here or
            has another shape.
        keys: keys and sections that the project adds to every config for this part: in a config that does not name the
            part, they mean nothing.
        target: what a call of that name in a python config means in keys of a YAML config.
    """

    tree: Callable[[Detectron2Config], Any]
    names: Sequence[tuple[str, str]] = ()
    derived: Sequence[str] = ()
    initial: Sequence[str] = ()
    fit: Callable[[dict[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]] | None = None
    keys: Sequence[str] = ()
    target: Callable[[Call], Keys] | None = None

    def __call__(self, config: Detectron2Config) -> Any:
        return self.tree(config)


def find(name: str) -> Detectron2Mapping | None:
    """The mapping of one of Detectron2's names that a plugin brings.

    Raises:
        ComponentError: several plugins do, or it cannot be imported.
    """
    if name.lower() not in registry().names(KIND):
        return None
    found: Detectron2Mapping = registry().load(KIND, name.lower())
    return found


def of_plugin(info: PluginInfo) -> list[Detectron2Mapping]:
    """All mappings that a plugin brings, each once."""
    found: list[Detectron2Mapping] = []
    for component in info.components:
        if component.kind == KIND and (mapping := registry().load(KIND, component.name)) not in found:
            found.append(mapping)
    return found


def advice(name: str) -> str:
    """What to install for a name that nothing installed has a mapping for; empty where nobody is known to have."""
    distribution = registry().distribution(KIND, name.lower())
    return f"; {distribution} converts it: pip install {distribution}" if distribution else ""


def renamed(
    arrays: Mapping[str, Tensor], mappings: Sequence[Detectron2Mapping], derived: Sequence[str] = ()
) -> tuple[dict[str, Tensor], list[str]]:
    """Detectron2's arrays under our names, as the first mapping says that knows them; and the names without
    counterpart.

    Args:
        derived: arrays that follow from the config, besides those of the mappings.
    """
    names = [rule for mapping in mappings for rule in mapping.names]
    left_out = [pattern for mapping in mappings for pattern in mapping.derived]
    return rename(arrays, names, (*derived, *left_out))
