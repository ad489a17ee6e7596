"""Published ImageNet weights of ConvNeXt, under this package's names, which are its authors'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from det_backbones.weights.published import TORCHVISION, fetched, renamed

FAIR = "https://dl.fbaipublicfiles.com/convnext"

# The classifier
_NO_BACKBONE = (r"norm\.(?:weight|bias)", r"head\..+", r"classifier\..+")
_FAIR = (
    (r"(downsample_layers\.\d\.[01]\..+)", r"\1"),
    (r"(stages\.\d\.\d+\.(?:gamma|(?:dwconv|norm|pwconv[12])\..+))", r"\1"),
)
_TIMM = (
    (r"stem\.([01]\..+)", r"downsample_layers.0.\1"),
    (r"stages\.(\d)\.downsample\.([01]\..+)", r"downsample_layers.\1.\2"),
    (r"stages\.(\d)\.blocks\.(\d+)\.(gamma|norm\..+)", r"stages.\1.\2.\3"),
    (r"stages\.(\d)\.blocks\.(\d+)\.conv_dw\.(.+)", r"stages.\1.\2.dwconv.\3"),
    (r"stages\.(\d)\.blocks\.(\d+)\.mlp\.fc([12])\.(.+)", r"stages.\1.\2.pwconv\3.\4"),
)
_TORCHVISION = (
    (r"features\.([0246])\.([01]\..+)", r"downsample_layers.{\1/2}.\2"),
    (r"features\.([1357])\.(\d+)\.layer_scale", r"stages.{\1/2}.\2.gamma"),
    (r"features\.([1357])\.(\d+)\.block\.0\.(.+)", r"stages.{\1/2}.\2.dwconv.\3"),
    (r"features\.([1357])\.(\d+)\.block\.2\.(.+)", r"stages.{\1/2}.\2.norm.\3"),
    (r"features\.([1357])\.(\d+)\.block\.3\.(.+)", r"stages.{\1/2}.\2.pwconv1.\3"),
    (r"features\.([1357])\.(\d+)\.block\.5\.(.+)", r"stages.{\1/2}.\2.pwconv2.\3"),
)


def fair_convnext(file: str) -> dict[str, Tensor]:
    """A ConvNeXt of its authors: RGB. They publish no checksums."""
    return from_fair(fetched(f"{FAIR}/{file}"))


def torchvision_convnext(file: str) -> dict[str, Tensor]:
    """A ConvNeXt of torchvision (IMAGENET1K_V1): RGB."""
    return from_torchvision(fetched(f"{TORCHVISION}/{file}"))


convnext_t_in1k_fair = partial(fair_convnext, "convnext_tiny_1k_224_ema.pth")
convnext_s_in1k_fair = partial(fair_convnext, "convnext_small_1k_224_ema.pth")
convnext_b_in1k_fair = partial(fair_convnext, "convnext_base_1k_224_ema.pth")
convnext_l_in1k_fair = partial(fair_convnext, "convnext_large_1k_224_ema.pth")
convnext_t_in22k_fair = partial(fair_convnext, "convnext_tiny_22k_224.pth")
convnext_s_in22k_fair = partial(fair_convnext, "convnext_small_22k_224.pth")
convnext_b_in22k_fair = partial(fair_convnext, "convnext_base_22k_224.pth")
convnext_l_in22k_fair = partial(fair_convnext, "convnext_large_22k_224.pth")
convnext_xl_in22k_fair = partial(fair_convnext, "convnext_xlarge_22k_224.pth")
convnext_t_torchvision = partial(torchvision_convnext, "convnext_tiny-983f1562.pth")
convnext_s_torchvision = partial(torchvision_convnext, "convnext_small-0c510722.pth")
convnext_b_torchvision = partial(torchvision_convnext, "convnext_base-6075fbad.pth")
convnext_l_torchvision = partial(torchvision_convnext, "convnext_large-ea097f82.pth")


def from_fair(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict -> that of `ConvNeXt`, without the classifier and the norm before it.

    Raises:
        ValueError: an array is of nothing that a ConvNeXt has.
    """
    return _converted(state, _FAIR)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's state dict -> that of `ConvNeXt`, without the classifier and the norm before it.

    Raises:
        ValueError: an array is of nothing that a ConvNeXt has.
    """
    return _converted(state, _TORCHVISION)


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's state dict (of version 1) -> that of `ConvNeXt`, without the classifier and the norm before it.

    Raises:
        ValueError: an array is of nothing that a ConvNeXt has.
    """
    return _converted(state, _TIMM)


def _converted(state: Mapping[str, Tensor], names: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """With gains of torchvision's shape (C, 1, 1) as the (C,) of all others."""
    found = renamed(state, names, _NO_BACKBONE, "a ConvNeXt")
    return {name: value.flatten() if name.endswith(".gamma") else value for name, value in found.items()}
