"""Which module maps which of Detectron2's architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from det_detectron2 import dense, mapping, panoptic, rcnn, semantic, swin
from det_detectron2.backbones import RESHAPED
from det_detectron2.mapping import Detectron2Mapping
from detkit.foreign import load_arrays

# Constants that follow from the config, in every architecture
DERIVED = (r"pixel_mean", r"pixel_std", r".+\.num_batches_tracked", *swin.DERIVED)

ARCHITECTURES: Mapping[str, Detectron2Mapping] = {
    "GeneralizedRCNN": Detectron2Mapping(tree=rcnn.model_tree, names=rcnn.NAMES, derived=rcnn.DERIVED),
    "RetinaNet": Detectron2Mapping(
        tree=dense.retinanet, names=dense.NAMES, derived=dense.DERIVED, initial=dense.INITIAL
    ),
    "FCOS": Detectron2Mapping(tree=dense.fcos, names=dense.NAMES, derived=dense.DERIVED, initial=dense.INITIAL),
    "PanopticFPN": Detectron2Mapping(tree=panoptic.model_tree, names=panoptic.NAMES, derived=panoptic.DERIVED),
    "ProposalNetwork": Detectron2Mapping(tree=rcnn.proposal_network_tree, names=rcnn.NAMES, derived=rcnn.DERIVED),
    "SemanticSegmentor": Detectron2Mapping(tree=semantic.model_tree, names=semantic.NAMES),
}
"""MODEL.META_ARCHITECTURE -> its mapping."""


def architecture(name: str) -> Detectron2Mapping:
    """The mapping of an architecture, of this package or of a plugin.

    Raises:
        ValueError: there is none.
    """
    found = ARCHITECTURES.get(name) or mapping.find(name)
    if found is None:
        raise ValueError(
            f"MODEL.META_ARCHITECTURE is {name!r}; there is a mapping for {', '.join(ARCHITECTURES)}"
            + mapping.advice(name)
        )
    return found


def renamed(arrays: Mapping[str, Tensor], mappings: Sequence[Detectron2Mapping]) -> tuple[dict[str, Tensor], list[str]]:
    """Detectron2's arrays of a model under our names and in our shapes, and the names that have no counterpart.

    Args:
        mappings: of the model's parts that plugins brought, and of its architecture, which comes last.
    """
    state, strangers = mapping.renamed(arrays, mappings, DERIVED)
    for name in RESHAPED.keys() & state.keys():
        state[name] = RESHAPED[name](state[name])
    return state, strangers


def load(model: nn.Module, arrays: Mapping[str, Tensor], mappings: Sequence[Detectron2Mapping], refusal: str) -> None:
    """Load Detectron2's arrays into a model, all of them and nothing else.

    Args:
        mappings: as for `renamed`.
        refusal: how the message begins: "FILE does not fit the model".

    Raises:
        ValueError: lists what has no counterpart, is missing, or is of another shape.
    """
    state, strangers = renamed(arrays, mappings)
    for each in mappings:
        if each.fit is not None:
            state = each.fit(state, model.state_dict())
    load_arrays(model, state, strangers, refusal, initial=[name for each in mappings for name in each.initial])
