"""Published ImageNet weights of vision transformers, under this package's names, which are mostly timm's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from det_backbones.weights.published import TORCHVISION, fetched, renamed
from detkit.foreign_vit import position_grid

MAE = "https://dl.fbaipublicfiles.com/mae/pretrain"
DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MAE"

# The class token, and what comes after the blocks
_NO_BACKBONE = (r"cls_token|class_token|mask_token", r"(?:encoder\.ln|fc_norm|norm)\.\w+", r"heads?\..+", r"decoder_.+")
_TIMM = (
    (r"(pos_embed|patch_embed\.proj\.\w+)", r"\1"),
    (r"(blocks\.\d+\.(?:norm[12]|attn\.(?:qkv|proj)|mlp\.fc[12])\.\w+)", r"\1"),
)
_LAYER = r"encoder\.layers\.encoder_layer_(\d+)\."
_TORCHVISION = (
    (r"encoder\.pos_embedding", r"pos_embed"),
    (r"conv_proj\.(\w+)", r"patch_embed.proj.\1"),
    (_LAYER + r"ln_([12])\.(\w+)", r"blocks.\1.norm\2.\3"),
    (_LAYER + r"self_attention\.in_proj_(\w+)", r"blocks.\1.attn.qkv.\2"),
    (_LAYER + r"self_attention\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (_LAYER + r"mlp\.(?:0|linear_1)\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (_LAYER + r"mlp\.(?:3|linear_2)\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
)


def mae_vit(url: str) -> dict[str, Tensor]:
    """The encoder of a masked autoencoder: RGB. There are no published checksums."""
    return from_timm(fetched(url))


def torchvision_vit(file: str) -> dict[str, Tensor]:
    """A vision transformer of torchvision (IMAGENET1K_V1): RGB."""
    return from_torchvision(fetched(f"{TORCHVISION}/{file}"))


vit_b16_mae = partial(mae_vit, f"{MAE}/mae_pretrain_vit_base.pth")
vit_l16_mae = partial(mae_vit, f"{MAE}/mae_pretrain_vit_large.pth")
vit_h14_mae = partial(mae_vit, f"{MAE}/mae_pretrain_vit_huge.pth")
vit_h16_mae = partial(mae_vit, f"{DETECTRON2}/mae_pretrain_vit_huge_p14to16.pth")
vit_b16_torchvision = partial(torchvision_vit, "vit_b_16-c867db91.pth")
vit_l16_torchvision = partial(torchvision_vit, "vit_l_16-852ce7e3.pth")


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's state dict, or MAE's, which is built of the same layers -> that of `ViT` without relative positions:
    without the class token, the classifier and the norm before it.

    Raises:
        ValueError: an array is of nothing that such a transformer has.
    """
    return _converted(state, _TIMM)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's state dict -> that of `ViT` without relative positions: without the class token, the classifier and
    the norm before it.

    Raises:
        ValueError: an array is of nothing that such a transformer has.
    """
    return _converted(state, _TORCHVISION)


def _converted(state: Mapping[str, Tensor], names: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    found = renamed(state, names, _NO_BACKBONE, "a vision transformer")
    if "pos_embed" in found:
        found["pos_embed"] = position_grid(found["pos_embed"])
    return found
