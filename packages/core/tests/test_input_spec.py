from __future__ import annotations

import pytest

from detkit.structures.input_spec import InputSpec


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((300, 1200), (333, 1333)),  # the longest edge is at its limit
        ((500, 500), (800, 800)),
        ((1, 5000), (1, 1333)),
    ],
)
def test_the_shortest_edge_decides_unless_the_longest_would_be_too_long(size: tuple, resized: tuple) -> None:
    assert InputSpec(min_size=800, max_size=1333).resized(*size) == resized


def test_zero_keeps_the_size() -> None:
    assert InputSpec(min_size=0).resized(123, 4567) == (123, 4567)


def test_it_reads_back_equal() -> None:
    spec = InputSpec(channel_order="bgr", mean=(1, 2, 3), std=(1, 1, 1), min_size=256)
    assert InputSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channel_order": "hsv"}, "it must be 'rgb' or 'bgr'"),
        ({"std": (1, 0, 1)}, "std above 0"),
        ({"min_size": 900, "max_size": 800}, "0 <= min_size <= max_size"),
        ({"divisor": 0}, "divisor >= 1"),
        ({"square": -1}, "or 0 for rectangles"),
    ],
)
def test_what_cannot_be_is_explained(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputSpec(**arguments)
