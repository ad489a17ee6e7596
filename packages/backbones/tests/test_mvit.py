from typing import Any

import pytest
import torch
from torch import Tensor

from det_backbones.mvit import MViT

SMALL: dict[str, Any] = {"embed_dim": 8, "depths": (1, 2, 1, 2), "image_size": 64, "window": 8}
SIZES: dict[str, tuple[dict[str, Any], float]] = {
    "T": ({}, 23.0),
    "S": ({"depths": (1, 2, 11, 2)}, 34.0),
    "B": ({"depths": (2, 3, 16, 3)}, 50.7),
    "L": ({"embed_dim": 144, "num_heads": 2, "depths": (2, 6, 36, 4)}, 216.0),
    "H": ({"embed_dim": 192, "num_heads": 3, "depths": (4, 8, 60, 8)}, 660.0),
}
"""What a size differs in from the defaults, and its millions of parameters: the published classifier's, but for the
layer of classes."""


def small(**changes: Any) -> MViT:
    torch.manual_seed(0)
    model = MViT(**{**SMALL, **changes})
    with torch.no_grad():  # tables begin from zeros
        for name in model.positions():
            model.get_parameter(name).normal_()
    return model.eval()


def changed(model: MViT, images: Tensor, row: int, column: int) -> list[Tensor]:
    """For each stage, which positions see a pixel."""
    images = images.double()
    other = images.clone()
    other[..., row, column] += 10
    with torch.no_grad():
        before, after = model.double()(images), model(other)
    return [(before[name] != after[name]).any(dim=1)[0] for name in before]


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_its_parameters(size: str) -> None:
    arguments, millions = SIZES[size]
    with torch.device("meta"):
        model = MViT(**arguments)
    assert sum(each.numel() for each in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)
    width = arguments.get("embed_dim", 96)
    assert [shape.channels for shape in model.output_shapes.values()] == [width, 2 * width, 4 * width, 8 * width]


def test_blocks_see_their_windows_and_the_last_of_a_stage_everything() -> None:
    first, second, *_ = changed(small(), torch.randn(1, 3, 96, 96), 0, 0)
    assert first[:8, :8].all()
    assert not first[8:].any()
    assert not first[:, 8:].any()
    assert second.all()


def test_without_windows_every_block_sees_everything() -> None:
    assert all(seen.all() for seen in changed(small(window=0), torch.randn(1, 3, 96, 96), 0, 0))


def test_keys_and_values_are_pooled_less_in_later_stages_and_more_where_all_is_seen() -> None:
    model = small(depths=(2, 3, 3, 2))
    strides = [block.attn.pool_k.stride[0] for block in model.blocks]
    assert strides == [4, 4, 2, 2, 4, 1, 1, 2, 1, 1]
    assert [block.attn.pool_q.stride[0] for block in model.blocks] == [1, 1, 2, 1, 1, 2, 1, 1, 2, 1]
    windows = [(block.attn.query_window, block.attn.key_window) for block in model.blocks]
    assert windows == [(8, 2), (8, 2), (4, 4), (4, 2), (0, 0), (2, 4), (2, 2), (0, 0), (1, 2), (0, 0)]


def test_checkpointing_changes_no_gradient() -> None:
    images = torch.randn(1, 3, 40, 56)
    gradients = []
    for checkpointing in (False, True):
        model = small(checkpointing=checkpointing).train()
        sum(features.square().mean() for features in model(images).values()).backward()
        gradients.append({name: each.grad for name, each in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_paths_are_dropped_in_training_more_often_towards_the_end() -> None:
    model = MViT(**SMALL, drop_path=0.5)
    rates = [getattr(block.drop_path, "p", 0.0) for block in model.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_tables_of_relative_positions_are_positions_and_blocks_are_layers() -> None:
    model = small()
    assert set(model.positions()) == {name for name, _ in model.named_parameters() if "rel_pos" in name}
    assert model.layer_prefixes() == [["patch_embed"], *([f"blocks.{number}"] for number in range(6))]


def test_it_exports() -> None:
    model, images = small(depths=(1, 1, 1, 1)), torch.randn(1, 3, 70, 50)
    with torch.no_grad():
        program = torch.export.export(model, (images,), strict=False)
        torch.testing.assert_close(program.module()(images), model(images))


def test_both_orders_of_memory_give_the_same() -> None:
    model, images = small(), torch.randn(2, 3, 70, 50)
    with torch.no_grad():
        expected = model(images)
        model.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(images.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)


def test_weights_fit_without_norms_of_stages_and_with_stages_that_are_not_built() -> None:
    whole = {name: value for name, value in small().state_dict().items() if not name.startswith("norms.")}
    model = small(out_features=["scale3"])
    model.load_state_dict(model.fit_weights(whole))
    deeper = small(depths=(1, 2, 1, 3)).state_dict()
    assert "blocks.6.norm1.weight" in small().fit_weights(deeper)  # of another size, for the caller to refuse


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (1, 2, 3)}, "four numbers of blocks"),
        ({"embed_dim": 10, "num_heads": 3}, "a multiple of num_heads"),
        ({"kv_stride": 3}, "kv_stride is 3; it must be 1, 2, 4 or 8"),
        ({"window": 7}, "window is 7; it must be a multiple of 8"),
        ({"image_size": 16}, "at least 32"),
        ({"drop_path": 1.0}, "a probability below 1"),
        ({"out_features": ["res2"]}, "choose from scale2, scale3, scale4, scale5"),
        ({"out_features": []}, "choose from"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MViT(**arguments)
