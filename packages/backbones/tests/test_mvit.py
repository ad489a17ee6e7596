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


def test_tables_of_relative_positions_are_positions_and_blocks_are_layers() -> None:
    model = small()
    assert set(model.positions()) == {name for name, _ in model.named_parameters() if "rel_pos" in name}
    assert model.layer_prefixes() == [["patch_embed"], *([f"blocks.{number}"] for number in range(6))]
