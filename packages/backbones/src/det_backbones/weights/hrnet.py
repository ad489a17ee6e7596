"""ImageNet weights of HRNet that its authors published, under this package's names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from det_backbones.weights.published import fetched, renamed

# The authors' files (HRNet-Image-Classification) are on a file-sharing site without direct links; timm keeps copies
TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-hrnet"

_NO_BACKBONE = (r"(?:incre_modules|downsamp_modules|final_layer|classifier)\..+",)
_BLOCK = r"(stage1|stage[234]\.\d+\.branches\.\d)\.(\d+)"
_FUSE = r"(stage[234]\.\d+)\.fuse_layers\.(\d\.\d)"

NAMES = (
    (r"conv([12])\.weight", r"stem.{\1-1}.weight"),
    (r"bn([12])\.(\w+)", r"stem.{\1-1}.norm.\2"),
    (rf"{_BLOCK}\.(conv[123])\.weight", r"\1.\2.\3.weight"),
    (rf"{_BLOCK}\.bn([123])\.(\w+)", r"\1.\2.conv\3.norm.\4"),
    (rf"{_BLOCK}\.downsample\.0\.weight", r"\1.\2.shortcut.weight"),
    (rf"{_BLOCK}\.downsample\.1\.(\w+)", r"\1.\2.shortcut.norm.\3"),
    # Towards a finer branch one convolution, towards a coarser one a sequence of them
    (rf"{_FUSE}\.0\.weight", r"\1.fuse.\2.weight"),
    (rf"{_FUSE}\.1\.(\w+)", r"\1.fuse.\2.norm.\3"),
    (rf"{_FUSE}\.(\d)\.0\.weight", r"\1.fuse.\2.\3.weight"),
    (rf"{_FUSE}\.(\d)\.1\.(\w+)", r"\1.fuse.\2.\3.norm.\4"),
    # What begins a branch is in a sequence of its own
    (r"transition1\.(\d)(?:\.0)?\.0\.weight", r"transition1.\1.weight"),
    (r"transition1\.(\d)(?:\.0)?\.1\.(\w+)", r"transition1.\1.norm.\2"),
    (r"(transition[23])\.\d\.0\.0\.weight", r"\1.weight"),
    (r"(transition[23])\.\d\.0\.1\.(\w+)", r"\1.norm.\2"),
)


def timm_hrnet(file: str) -> dict[str, Tensor]:
    """An HRNet as its authors trained it on ImageNet: RGB."""
    return from_timm(fetched(f"{TIMM}/{file}"))


hrnet_w18_microsoft = partial(timm_hrnet, "hrnetv2_w18-8cb57bb9.pth")
hrnet_w32_microsoft = partial(timm_hrnet, "hrnetv2_w32-90d8c5fb.pth")
hrnet_w40_microsoft = partial(timm_hrnet, "hrnetv2_w40-7cd397a4.pth")
hrnet_w48_microsoft = partial(timm_hrnet, "hrnetv2_w48-abd2e6ab.pth")


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of timm's HighResolutionNet, or of the authors' own, which has the same names -> that of `HRNet`,
    without the classifier and what leads to it.

    Raises:
        ValueError: an array is of nothing that an HRNet has.
    """
    stages = {name.replace("layer1.", "stage1."): value for name, value in state.items()}
    return renamed(stages, NAMES, _NO_BACKBONE, "an HRNet")
