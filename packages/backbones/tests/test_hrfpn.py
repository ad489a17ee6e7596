import pytest
import torch
import torch.nn.functional as F

from det_backbones.hrfpn import HRFPN
from detkit.structures.shape import Shape

SHAPES = {"res2": Shape(4, 4), "res3": Shape(8, 8), "res4": Shape(16, 16), "res5": Shape(32, 32)}


def features(height: int = 128, width: int = 192) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(1, s.channels, height // s.stride, width // s.stride) for name, s in SHAPES.items()}


@pytest.mark.parametrize("resampling", ["avg", "max", "learned"])
def test_levels_begin_at_the_finest_map(resampling: str) -> None:
    neck = HRFPN(input_shapes=SHAPES, channels=8, resampling=resampling)  # type: ignore[arg-type]
    outputs = neck(features())
    assert {name: tuple(each.shape[1:]) for name, each in outputs.items()} == {
        "p2": (8, 32, 48),
        "p3": (8, 16, 24),
        "p4": (8, 8, 12),
        "p5": (8, 4, 6),
        "p6": (8, 2, 3),
    }
    assert neck.divisor == 64
    assert HRFPN(input_shapes=SHAPES, levels=2, resampling=resampling).divisor == 32  # type: ignore[arg-type]


@pytest.mark.parametrize("resampling", ["avg", "max"])
def test_levels_are_pooled_from_all_maps_upsampled_and_joined(resampling: str) -> None:
    neck = HRFPN(input_shapes=SHAPES, channels=8, levels=3, resampling=resampling)  # type: ignore[arg-type]
    maps = features()
    joined = torch.cat([F.interpolate(each, (32, 48), mode="bilinear") for each in maps.values()], dim=1)
    blocks = neck.reduce(joined).reshape(1, 8, 8, 4, 12, 4)
    pooled = blocks.mean(dim=(3, 5)) if resampling == "avg" else blocks.amax(dim=(3, 5))
    torch.testing.assert_close(neck(maps)["p4"], neck.output[2](pooled))


def test_learned_resampling_is_denseposes_but_for_the_lower_and_right_borders() -> None:
    """DensePose cuts all maps to the smallest of the transposed convolutions' outputs; ours are whole."""
    neck = HRFPN(input_shapes=SHAPES, channels=8, levels=4, resampling="learned", norm="bn").eval()
    for name, buffer in neck.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    maps = features()
    with torch.no_grad():
        high = []
        for number, each in enumerate(maps.values()):
            conv, norm, _ = neck.upsample[number]  # type: ignore[misc]
            high.append(norm(F.conv_transpose2d(each, conv.weight, stride=2**number)).relu())
        height, width = min(each.shape[2] for each in high), min(each.shape[3] for each in high)
        assert (height, width) == (28, 44)
        joined = torch.cat([each[..., :height, :width] for each in high], dim=1)
        found = neck(maps)
        for number, name in enumerate(found):
            conv, norm, _ = neck.pool[number]  # type: ignore[misc]
            level = norm(F.conv2d(joined, conv.weight, stride=2**number)).relu()
            expected = F.conv2d(level, neck.output[number].weight, neck.output[number].bias, padding=1)[..., :-1, :-1]
            rows, columns = expected.shape[-2:]
            assert rows > 0
            torch.testing.assert_close(found[name][..., :rows, :columns], expected, rtol=1e-4, atol=1e-5)


def test_arguments_that_make_no_pyramid_are_errors() -> None:
    with pytest.raises(ValueError, match="levels is 0; HRFPN needs 1 at least"):
        HRFPN(input_shapes=SHAPES, levels=0)
    with pytest.raises(ValueError, match="resampling is 'sum'; choose from 'avg', 'max', 'learned'"):
        HRFPN(input_shapes=SHAPES, resampling="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"HRFPN needs strides that double .* got \[4, 16\]"):
        HRFPN(input_shapes=SHAPES, in_features=["res2", "res4"])
    with pytest.raises(ValueError, match="HRFPN wants p1; the backbone gives res2, res3, res4, res5"):
        HRFPN(input_shapes=SHAPES, in_features=["p1"])
