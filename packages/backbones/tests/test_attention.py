from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from det_backbones.attention import attention, drop_path, relative_positions, window_merge, window_partition

SIZES = st.integers(1, 9)


@given(height=SIZES, width=SIZES, size=st.integers(1, 5), batch=st.integers(1, 3))
def test_windows_merge_into_the_map_that_they_were_cut_from(height: int, width: int, size: int, batch: int) -> None:
    x = torch.randn(batch, height, width, 2)
    windows = window_partition(x, size)
    assert windows.shape == (batch * -(-height // size) * -(-width // size), size, size, 2)
    assert torch.equal(window_merge(windows, height, width), x)


def test_windows_come_row_by_row_with_zeros_beyond_the_map() -> None:
    x = torch.arange(1.0, 13).view(1, 3, 4, 1)
    windows = window_partition(x, 2)[..., 0]
    assert windows.tolist() == [[[1, 2], [5, 6]], [[3, 4], [7, 8]], [[9, 10], [0, 0]], [[11, 12], [0, 0]]]


def test_relative_positions_begin_with_the_furthest_behind() -> None:
    table = torch.arange(5.0)[:, None]
    assert relative_positions(table, 3, 3)[..., 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]


def test_fewer_keys_are_spread_over_the_range_of_the_queries() -> None:
    table = torch.arange(7.0)[:, None]
    assert relative_positions(table, 4, 2)[..., 0].tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]
    assert relative_positions(table, 2, 4)[..., 0].tolist() == [[3, 2, 1, 0], [5, 4, 3, 2]]


def test_a_table_of_other_distances_is_resized() -> None:
    table = torch.tensor([[0.0], [1.0], [2.0]])
    found = relative_positions(table, 5, 5)
    assert found.shape == (5, 5, 1)
    assert found[0, 4] == 0
    assert found[4, 0] == 2
    assert found[2, 2] == 1
    assert (found.diff(dim=0) >= 0).all()


def expected(
    query: Tensor, key: Tensor, value: Tensor, tables: tuple[Tensor, Tensor], sizes: tuple[tuple[int, int], ...]
) -> Tensor:
    """By the definition: a logit for each pair of a query and a key, one after the other."""
    (query_rows, query_columns), (key_rows, key_columns) = sizes
    by_height = relative_positions(tables[0], query_rows, key_rows)
    by_width = relative_positions(tables[1], query_columns, key_columns)
    logits = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    for q in range(query.shape[2]):
        for k in range(key.shape[2]):
            position = by_height[q // query_columns, k // key_columns] + by_width[q % query_columns, k % key_columns]
            logits[:, :, q, k] += query[:, :, q] @ position
    return logits.softmax(-1) @ value


@pytest.mark.parametrize("sizes", [((3, 4), (3, 4)), ((4, 6), (2, 3)), ((2, 2), (1, 1))])
def test_a_query_adds_its_product_with_relative_positions(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (height * width for height, width in sizes)
    query = torch.randn(2, 3, queries, 8, generator=generator)
    key, value = torch.randn(2, 2, 3, keys, 8, generator=generator)
    tables = torch.randn(7, 8, generator=generator), torch.randn(11, 8, generator=generator)
    found = attention(query, key, value, tables, *sizes)
    torch.testing.assert_close(found, expected(query, key, value, tables, sizes), rtol=1e-5, atol=1e-5)


def test_paths_are_dropped_from_whole_samples_in_training_alone() -> None:
    x = torch.ones(50, 2, 2, 3)
    assert torch.equal(drop_path(0.5).eval()(x), x)
    dropped = drop_path(0.5).train()(x).flatten(1)
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped.amin(1), dropped.amax(1))
