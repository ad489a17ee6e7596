"""Which module maps which of Detectron2's architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from det_detectron2 import dense, panoptic, rcnn, semantic, swin
from det_detectron2.backbones import RESHAPED
from det_detectron2.config import Detectron2Config
from detkit.foreign import rename

# Constants that follow from the config, in every architecture
DERIVED = (r"pixel_mean", r"pixel_std", r".+\.num_batches_tracked", *swin.DERIVED)


@dataclass(frozen=True)
class Architecture:
    """How configs and checkpoints of one architecture are read.

    Args:
        tree: config -> the `model` section of a detkit config, with `num_classes` and
            `num_semantic_classes` where Detectron2 has them.
        names: Detectron2's names of arrays, as regular expressions, and ours; `{N-1}` counts from 0 what Detectron2
            counts from 1.
        derived: arrays that follow from the config and are left out.
        initial: arrays of ours that Detectron2 does not save, which stay as a new model has them.
    """

    tree: Callable[[Detectron2Config], dict[str, Any]]
    names: tuple[tuple[str, str], ...]
    derived: tuple[str, ...] = ()
    initial: tuple[str, ...] = ()

    def renamed(self, arrays: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Detectron2's arrays under our names and in our shapes, and the names that have no counterpart."""
        state, strangers = rename(arrays, self.names, (*DERIVED, *self.derived))
        for name in RESHAPED.keys() & state.keys():
            state[name] = RESHAPED[name](state[name])
        return state, strangers


ARCHITECTURES: Mapping[str, Architecture] = {
    "GeneralizedRCNN": Architecture(rcnn.model_tree, rcnn.NAMES, rcnn.DERIVED),
    "RetinaNet": Architecture(dense.retinanet, dense.NAMES, dense.DERIVED, dense.INITIAL),
    "FCOS": Architecture(dense.fcos, dense.NAMES, dense.DERIVED, dense.INITIAL),
    "PanopticFPN": Architecture(panoptic.model_tree, panoptic.NAMES, panoptic.DERIVED),
    "ProposalNetwork": Architecture(rcnn.proposal_network_tree, rcnn.NAMES, rcnn.DERIVED),
    "SemanticSegmentor": Architecture(semantic.model_tree, semantic.NAMES),
}
"""MODEL.META_ARCHITECTURE -> its mapping."""
