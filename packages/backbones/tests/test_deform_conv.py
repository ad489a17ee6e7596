import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from det_backbones.deform_conv import DeformConv
from detkit.layers import Conv


def layers(modulated: bool = False, **arguments) -> tuple[DeformConv, Conv]:
    """A deformable and a plain convolution with the same weights."""
    torch.manual_seed(0)
    deform, plain = DeformConv(8, 12, 3, modulated=modulated, **arguments), Conv(8, 12, 3, **arguments)
    plain.load_state_dict({k: v for k, v in deform.state_dict().items() if not k.startswith("offset.")})
    return deform.eval(), plain.eval()


@pytest.mark.parametrize("norm", ["", "bn", "frozen_bn"])
@pytest.mark.parametrize("arguments", [{}, {"stride": 2}, {"dilation": 2, "groups": 4}, {"relu": True}])
def test_without_offsets_it_is_a_plain_convolution(norm: str, arguments: dict) -> None:
    deform, plain = layers(norm=norm, **arguments)
    x = torch.randn(2, 8, 11, 14)
    torch.testing.assert_close(deform(x), plain(x), rtol=1e-4, atol=1e-5)


def test_modulated_its_points_count_half_in_the_beginning() -> None:
    deform, plain = layers(modulated=True, norm="bn")
    x = torch.randn(2, 8, 11, 14)
    torch.testing.assert_close(deform(x), plain(x / 2), rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(y=st.integers(-3, 3), x=st.integers(-3, 3), modulated=st.booleans(), deform_groups=st.sampled_from([1, 2]))
def test_the_same_offset_for_all_points_shifts_the_input(y: int, x: int, modulated: bool, deform_groups: int) -> None:
    torch.manual_seed(0)
    deform = DeformConv(8, 4, 3, modulated=modulated, deform_groups=deform_groups)
    with torch.no_grad():
        deform.offset.bias[: 18 * deform_groups] = torch.tensor([y, x]).float().repeat(9 * deform_groups)
        deform.offset.bias[18 * deform_groups :] = 30.0  # the weights of the points; nearly 1
    image = torch.randn(1, 8, 12, 12)
    shifted = F.pad(image, (3, 3, 3, 3))[:, :, 3 + y : 15 + y, 3 + x : 15 + x]
    expected = F.conv2d(shifted, deform.weight, deform.bias, padding=1)
    # at the border a plain convolution of the shifted image sees padding where the deformable one sees the image
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(deform(image)[inner], expected[inner], rtol=1e-3, atol=1e-4)


def test_it_exports_with_sides_of_any_length() -> None:
    deform, _ = layers(modulated=True, norm="frozen_bn", relu=True)
    torch.nn.init.normal_(deform.offset.weight, std=0.1)
    sides = {2: torch.export.Dim("height", min=4, max=64), 3: torch.export.Dim("width", min=4, max=64)}
    program = torch.export.export(deform, (torch.randn(1, 8, 10, 12),), dynamic_shapes=({**sides},), strict=False)
    x = torch.randn(1, 8, 17, 23)
    torch.testing.assert_close(program.module()(x), deform(x))
