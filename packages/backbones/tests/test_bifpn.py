import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from det_backbones.bifpn import BiFPN, BiFPNLayer, Fusion
from detkit.structures.shape import Shape

SHAPES = {"res3": Shape(8, 8), "res4": Shape(12, 16), "res5": Shape(16, 32)}


def features() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(1, s.channels, 128 // s.stride, 192 // s.stride) for name, s in SHAPES.items()}


def fused(fusion: Fusion, *maps: Tensor) -> Tensor:
    """The weighted mean, swish, and both parts of the separable convolution as one dense convolution."""
    weights = [max(float(weight), 0.0) for weight in fusion.weights.detach()]
    total = torch.zeros_like(maps[0])
    for weight, each in zip(weights, maps, strict=True):
        total = total + weight * each
    mean = total / (sum(weights) + 1e-4)
    dense = fusion.pointwise.weight[:, :, 0, 0, None, None] * fusion.depthwise.weight[None, :, 0]
    return F.conv2d(mean * mean.sigmoid(), dense, fusion.pointwise.bias, padding=1)


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def halved(x: Tensor) -> Tensor:
    padded = F.pad(x, (1, 1, 1, 1), value=-torch.inf)
    return padded.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(-1, -2))


def test_a_layer_follows_the_papers_equations() -> None:
    """Of levels 3 to 6: from the coarsest down, and back up to it."""
    torch.manual_seed(0)
    layer = BiFPNLayer(4, 8, "")
    for each in layer.modules():
        if isinstance(each, Fusion):
            torch.nn.init.uniform_(each.weights, -0.2, 1.0)
    p3, p4, p5, p6 = (torch.randn(2, 8, size, size + size // 2) for size in (32, 16, 8, 4))
    down3, down4, down5 = layer.down
    up4, up5, up6 = layer.up
    p5_between = fused(down5, p5, doubled(p6))
    p4_between = fused(down4, p4, doubled(p5_between))
    p3_out = fused(down3, p3, doubled(p4_between))
    p4_out = fused(up4, p4, p4_between, halved(p3_out))
    p5_out = fused(up5, p5, p5_between, halved(p4_out))
    p6_out = fused(up6, p6, halved(p5_out))
    torch.testing.assert_close(layer([p3, p4, p5, p6]), [p3_out, p4_out, p5_out, p6_out], rtol=1e-4, atol=1e-5)


def test_levels_above_are_pooled_from_a_projection_of_their_own() -> None:
    neck = BiFPN(input_shapes=SHAPES, channels=8, extra_levels=2, norm="").eval()
    maps, seen = features(), []
    neck.layers.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    outputs = neck(maps)
    assert {name: tuple(each.shape) for name, each in outputs.items()} == {
        "p3": (1, 8, 16, 24),
        "p4": (1, 8, 8, 12),
        "p5": (1, 8, 4, 6),
        "p6": (1, 8, 2, 3),
        "p7": (1, 8, 1, 2),
    }
    torch.testing.assert_close(seen[2], neck.lateral[2](maps["res5"]))
    torch.testing.assert_close(seen[3], halved(neck.extra(maps["res5"])))  # type: ignore[misc]
    torch.testing.assert_close(seen[4], halved(seen[3]))


def test_weights_that_are_all_zero_or_less_give_no_nan() -> None:
    fusion = Fusion(2, 4, "")
    torch.nn.init.constant_(fusion.weights, -1.0)
    assert fusion(torch.ones(1, 4, 2, 2), torch.ones(1, 4, 2, 2)).isfinite().all()


def test_arguments_that_make_no_pyramid_are_errors() -> None:
    with pytest.raises(ValueError, match="BiFPN has 1 maps and extra_levels 0; it needs two levels at least"):
        BiFPN(input_shapes=SHAPES, in_features=["res5"], extra_levels=0)
    with pytest.raises(ValueError, match="layers is 0; BiFPN needs 1 at least"):
        BiFPN(input_shapes=SHAPES, layers=0)
    with pytest.raises(ValueError, match=r"BiFPN needs strides that double .* got \[8, 32\]"):
        BiFPN(input_shapes=SHAPES, in_features=["res3", "res5"])
