"""Published ImageNet weights of MViTv2, under this package's names, which are mostly its authors'."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import partial

from torch import Tensor

from det_backbones.weights.published import fetched, renamed

FAIR = "https://dl.fbaipublicfiles.com/mvit/mvitv2_models"

_NAMES = (
    (r"(patch_embed\.proj\.(?:weight|bias))", r"\1"),
    (r"(blocks\.\d+\.(?:norm[12]|proj|mlp\.fc[12])\.(?:weight|bias))", r"\1"),
    (r"(blocks\.\d+\.attn\.(?:rel_pos_[hw]|(?:qkv|proj|pool_[qkv]|norm_[qkv])\.(?:weight|bias)))", r"\1"),
)
_NO_BACKBONE = (r"cls_token", r"norm\.(?:weight|bias)", r"head\..+")
_TIMM_BLOCK = r"stages\.(\d+)\.blocks\.(\d+)\."


def fair_mvit(file: str) -> dict[str, Tensor]:
    """An MViTv2 of its authors: RGB. They publish no checksums."""
    return from_fair(fetched(f"{FAIR}/{file}"))


mvitv2_t_in1k_fair = partial(fair_mvit, "MViTv2_T_in1k.pyth")
mvitv2_s_in1k_fair = partial(fair_mvit, "MViTv2_S_in1k.pyth")
mvitv2_b_in1k_fair = partial(fair_mvit, "MViTv2_B_in1k.pyth")
mvitv2_l_in1k_fair = partial(fair_mvit, "MViTv2_L_in1k.pyth")
mvitv2_b_in21k_fair = partial(fair_mvit, "MViTv2_B_in21k.pyth")
mvitv2_l_in21k_fair = partial(fair_mvit, "MViTv2_L_in21k.pyth")
mvitv2_h_in21k_fair = partial(fair_mvit, "MViTv2_H_in21k.pyth")


def from_fair(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict -> that of `MViT` but for the norms of its stages: without the classifier, the norm
    before it and the class token. Kernels that span one frame, as models for videos have them, become those for images.

    Raises:
        ValueError: an array is of nothing that an MViTv2 has.
    """
    found = renamed(state, _NAMES, _NO_BACKBONE, "an MViTv2")
    return {name: value.squeeze(2) if value.ndim == 5 else value for name, value in found.items()}


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of timm's mvitv2_* -> that of `MViT`, as from `from_fair`.

    Raises:
        ValueError: an array is of nothing that an MViTv2 has.
    """
    found = {match[0]: int(match[1]) for name in state if (match := re.match(_TIMM_BLOCK, name))}
    depths = Counter(found.values())

    def numbered(match: re.Match[str]) -> str:
        stage, block = int(match[1]), int(match[2])
        return f"blocks.{sum(depths[before] for before in range(stage)) + block}."

    return from_fair(
        {
            re.sub(_TIMM_BLOCK, numbered, name)
            .replace("shortcut_proj_attn", "proj")
            .replace("shortcut_proj_mlp", "proj"): value
            for name, value in state.items()
        }
    )
