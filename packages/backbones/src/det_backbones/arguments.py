"""Checks of arguments that several backbones, necks and trunks have, so that all say the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from detkit.structures.shape import Shape


def check_choice(argument: str, value: object, choices: Collection[object]) -> None:
    """Refuse a value that an argument of this name cannot have.

    Raises:
        ValueError: the value is none of the choices.
    """
    if value not in choices:
        raise ValueError(f"{argument} is {value!r}; choose from {', '.join(map(repr, choices))}")


def check_stages(stages: Sequence[str], **arguments: Sequence[str]) -> None:
    """Refuse arguments that are lists of stages and name something else.

    Raises:
        ValueError: a stage is named that there is not.
    """
    for argument, names in arguments.items():
        if any(name not in stages for name in names):
            raise ValueError(f"{argument} is {list(names)}; choose from {', '.join(stages)}")


def wanted_stages(stages: Sequence[str], out_features: Sequence[str]) -> Sequence[str]:
    """The stages to build: up to the last whose map is to be returned.

    Raises:
        ValueError: a map is wanted that there is not, or none is.
    """
    check_stages(stages, out_features=out_features)
    if not out_features:
        raise ValueError(f"out_features is empty; choose from {', '.join(stages)}")
    return stages[: 1 + max(stages.index(name) for name in out_features)]


def check_freeze_at(freeze_at: int, parts: Sequence[str]) -> None:
    """Refuse to freeze more than there is.

    Args:
        freeze_at: how many parts are constants in training.
        parts: what they are called, from the images on.

    Raises:
        ValueError: there are fewer parts, or `freeze_at` is negative.
    """
    if not 0 <= freeze_at <= len(parts):
        raise ValueError(
            f"freeze_at is {freeze_at}; it is how many of {', '.join(parts)} are constants, 0 to {len(parts)}"
        )


def check_lengths(**arguments: Sequence[object]) -> None:
    """Refuse arguments that should be lists with an item for each stage, and are not of one length.

    Raises:
        ValueError: they differ in length.
    """
    if len({len(each) for each in arguments.values()}) > 1:
        lists = " and ".join(f"{argument} {list(each)}" for argument, each in arguments.items())
        raise ValueError(f"{lists} are for different numbers of stages; give one item of each per stage")


def regions_of(input_shapes: Mapping[str, Shape]) -> Shape:
    """Channels and stride of what a trunk on regions sees, whether its inputs are the pooled regions or the maps that
    they are pooled from, finest first. The stride is the finest's.

    Raises:
        ValueError: maps of several widths, or none.
    """
    widths = {shape.channels for shape in input_shapes.values()}
    if len(widths) != 1:
        raise ValueError(
            f"the maps {', '.join(input_shapes)} have {sorted(widths)} channels; one number is needed: leave out "
            "maps, or put a neck in between"
        )
    return next(iter(input_shapes.values()))
