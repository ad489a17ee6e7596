"""Published ImageNet weights of Swin Transformer, under this package's names, which are its authors'."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from det_backbones.weights.published import TORCHVISION, fetched, renamed

MICROSOFT = "https://github.com/SwinTransformer/storage/releases/download"

# The classifier, and what follows from the sizes
_NO_BACKBONE = (
    r"norm\.(?:weight|bias)",
    r"head\..+",
    r"layers\..+\.(?:attn_mask|relative_position_index)",
    r"features\..+\.relative_position_index",
)
_BLOCK = r"(norm[12]\..+|attn\.(?:qkv|proj)\..+|attn\.relative_position_bias_table)"
_MICROSOFT = (
    (r"(absolute_pos_embed|patch_embed\.(?:proj|norm)\..+)", r"\1"),
    (rf"(layers\.\d+\.blocks\.\d+)\.{_BLOCK}", r"\1.\2"),
    (r"(layers\.\d+\.blocks\.\d+\.mlp\.fc[12]\..+)", r"\1"),
    (r"(layers\.\d+\.downsample\.(?:norm|reduction)\..+)", r"\1"),
)
_TIMM = (
    *_MICROSOFT[:3],
    (r"layers\.(\d+)\.(downsample\.(?:norm|reduction)\..+)", r"layers.{\1-1}.\2"),
)
_TORCHVISION = (
    (r"features\.0\.0\.(.+)", r"patch_embed.proj.\1"),
    (r"features\.0\.2\.(.+)", r"patch_embed.norm.\1"),
    (rf"features\.([1357])\.(\d+)\.{_BLOCK}", r"layers.{\1/2}.blocks.\2.\3"),
    (r"features\.([1357])\.(\d+)\.mlp\.0\.(.+)", r"layers.{\1/2}.blocks.\2.mlp.fc1.\3"),
    (r"features\.([1357])\.(\d+)\.mlp\.3\.(.+)", r"layers.{\1/2}.blocks.\2.mlp.fc2.\3"),
    (r"features\.2\.(.+)", r"layers.0.downsample.\1"),
    (r"features\.4\.(.+)", r"layers.1.downsample.\1"),
    (r"features\.6\.(.+)", r"layers.2.downsample.\1"),
)


def microsoft_swin(file: str) -> dict[str, Tensor]:
    """A Swin Transformer of its authors: RGB. They publish no checksums."""
    return from_microsoft(fetched(f"{MICROSOFT}/{file}"))


def torchvision_swin(file: str) -> dict[str, Tensor]:
    """A Swin Transformer of torchvision (IMAGENET1K_V1): RGB."""
    return from_torchvision(fetched(f"{TORCHVISION}/{file}"))


swin_t_in1k_microsoft = partial(microsoft_swin, "v1.0.0/swin_tiny_patch4_window7_224.pth")
swin_s_in1k_microsoft = partial(microsoft_swin, "v1.0.0/swin_small_patch4_window7_224.pth")
swin_b_in1k_microsoft = partial(microsoft_swin, "v1.0.0/swin_base_patch4_window7_224.pth")
swin_b_window12_in1k_microsoft = partial(microsoft_swin, "v1.0.0/swin_base_patch4_window12_384.pth")
swin_t_in22k_microsoft = partial(microsoft_swin, "v1.0.8/swin_tiny_patch4_window7_224_22k.pth")
swin_s_in22k_microsoft = partial(microsoft_swin, "v1.0.8/swin_small_patch4_window7_224_22k.pth")
swin_b_in22k_microsoft = partial(microsoft_swin, "v1.0.0/swin_base_patch4_window7_224_22k.pth")
swin_l_in22k_microsoft = partial(microsoft_swin, "v1.0.0/swin_large_patch4_window7_224_22k.pth")
swin_b_window12_in22k_microsoft = partial(microsoft_swin, "v1.0.0/swin_base_patch4_window12_384_22k.pth")
swin_l_window12_in22k_microsoft = partial(microsoft_swin, "v1.0.0/swin_large_patch4_window12_384_22k.pth")
swin_t_torchvision = partial(torchvision_swin, "swin_t-704ceda3.pth")
swin_s_torchvision = partial(torchvision_swin, "swin_s-5e29d889.pth")
swin_b_torchvision = partial(torchvision_swin, "swin_b-68c6b09e.pth")


def from_microsoft(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict -> that of `SwinTransformer`, without the classifier and the norm before it.

    Raises:
        ValueError: an array is of nothing that a Swin Transformer has.
    """
    return renamed(state, _MICROSOFT, _NO_BACKBONE, "a Swin Transformer")


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's state dict (of version 1) -> that of `SwinTransformer`, without the classifier and the norm before
    it.

    Raises:
        ValueError: an array is of nothing that a Swin Transformer has.
    """
    return renamed(state, _TORCHVISION, _NO_BACKBONE, "a Swin Transformer")


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's state dict (of version 1) -> that of `SwinTransformer`, without the classifier and the norm before it.

    Raises:
        ValueError: an array is of nothing that a Swin Transformer has.
    """
    return renamed(state, _TIMM, _NO_BACKBONE, "a Swin Transformer")
