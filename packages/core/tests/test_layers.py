import pytest
import torch
from torch import nn

from detkit.layers import Conv, FrozenBatchNorm, freeze, make_norm, memory_format


def randomise(norm: FrozenBatchNorm) -> None:
    generator = torch.Generator().manual_seed(0)
    for buffer in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)


def test_frozen_batch_norm_folded_into_a_convolution_equals_it_applied_after() -> None:
    conv = Conv(4, 6, 3, norm="frozen_bn").double()
    assert isinstance(conv.norm, FrozenBatchNorm)
    randomise(conv.norm)
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    wanted = conv.norm(nn.functional.conv2d(x, conv.weight, padding=1))
    torch.testing.assert_close(conv(x), wanted)
    folded, applied = (torch.autograd.grad(y.square().sum(), conv.weight)[0] for y in (conv(x), wanted))
    torch.testing.assert_close(folded, applied)


def test_frozen_batch_norm_equals_batch_norm_in_evaluation_mode() -> None:
    norm = nn.BatchNorm2d(5).double().eval()
    generator = torch.Generator().manual_seed(0)
    norm.load_state_dict(
        {k: torch.rand(v.shape, generator=generator).to(v.dtype) + 0.5 for k, v in norm.state_dict().items()}
    )
    holder = nn.Sequential(norm)
    x = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    wanted = norm(x)
    freeze(holder)
    assert isinstance(holder[0], FrozenBatchNorm)
    torch.testing.assert_close(holder[0](x), wanted)


def test_layer_norm_of_a_map_is_over_the_channels_of_each_position() -> None:
    norm = make_norm("ln", 6)
    assert norm is not None
    x = torch.randn(2, 6, 4, 5)
    normed = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), normed)


def test_freezing_leaves_nothing_to_train() -> None:
    module = nn.Sequential(Conv(3, 8, 3, norm="bn"), Conv(8, 8, 1, norm="gn"))
    freeze(module)
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize(("stride", "dilation", "side"), [(1, 1, 8), (2, 1, 4), (1, 2, 8)])
def test_padding_keeps_the_size_but_for_the_stride(stride: int, dilation: int, side: int) -> None:
    assert Conv(2, 3, 3, stride=stride, dilation=dilation)(torch.zeros(1, 2, 8, 8)).shape == (1, 3, side, side)


def test_an_unknown_norm_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'batch' is not known; choose one of .*frozen_bn"):
        make_norm("batch", 8)  # type: ignore[arg-type]


def test_group_norm_divides_any_number_of_channels() -> None:
    norm = make_norm("gn", 48)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == 16


@pytest.mark.parametrize(
    ("capability", "gradients", "order"),
    [
        ("AVX2", True, torch.contiguous_format),
        ("AVX2", False, torch.channels_last),
        ("AVX512", True, torch.channels_last),
    ],
)
def test_only_gradients_on_old_cpus_are_computed_channel_by_channel(
    monkeypatch: pytest.MonkeyPatch, capability: str, gradients: bool, order: torch.memory_format
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert memory_format(torch.device("cpu"), gradients=gradients) == order
    assert memory_format(torch.device("cuda"), gradients=gradients) == torch.channels_last
