"""Starting from weights that were trained on other classes, or for the backbone alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from detkit.detector import Detector
from detkit.interfaces import Backbone, RoiTrunk
from detkit.model_directory import find_model, read_meta
from detkit.plugins import registry
from detkit.structures.categories import Categories
from detkit.weights import differences, read_weights

_SHOWN = 8  # class names that a report lists


@dataclass(frozen=True)
class Transfer:
    """What `initialise` did. `str()` says it in a sentence.

    arrays: how many arrays of the model were taken over, in whole or in part.
    source_classes, classes: how many classes, of instances and of pixels, the source and the model have; 0 where the
        source has no class rows.
    reused: names of the classes whose rows were taken over, where the classes differ.
    fresh: names of the classes that begin from the model's own initial values.
    random: parts of the model that the source does not cover.
    """

    arrays: int
    source_classes: int = 0
    classes: int = 0
    reused: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    random: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = f"took over {self.arrays} arrays"
        if self.random:
            words += f"; {', '.join(self.random)} begin from random weights, expected"
        if self.fresh:
            names = f": {_listed(self.reused)}" if self.reused else ""
            words += (
                f"; head re-initialised {self.source_classes} -> {self.classes} classes "
                f"({len(self.reused)} reused by name{names}), expected"
            )
        elif self.reused:
            words += f"; class rows rearranged, {self.source_classes} -> {self.classes} classes, all reused by name"
        return words


def initialise(
    model: Detector, source: str | Path | Mapping[str, Tensor], *, categories: Categories | None = None
) -> Transfer:
    """Copy weights into a model that has just been built, before it is trained.

    Arrays whose rows belong to classes (`Detector.class_rows`, `semantic_class_rows`) may be of other classes: rows of
    classes with the same name (upper and lower case alike) are copied, the others keep the values they have; rows that
    belong to no class, such as background, are copied. So it is with columns (`Detector.class_columns`,
    `semantic_class_columns`). All other arrays must fit.

    Args:
        model: its own categories decide which rows it needs.
        source: a model directory or a run (its best model, else its last), a safetensors file, the name of published
            weights (a component of kind "weights", which are downloaded), or a state dict; of a whole model, or of its
            `backbone` alone.
        categories: of a file or a state dict; without them its class rows are taken in order, and must be as many. So
            are those of pixels.

    Raises:
        ValueError: the source cannot be read, or arrays are missing, unexpected or of another shape; lists them.
    """
    state, categories, pixels, origin = _read(source, categories)
    if (bare := _backbone_arrays(model, state)) is not None:
        return _initialise_backbone(model, bare, origin)

    own, adapted = model.state_dict(), dict(state)
    kinds = [
        (rows, columns, given or target, target)
        for rows, columns, given, target in (
            (model.class_rows(), model.class_columns(), categories, model.categories),
            (model.semantic_class_rows(), model.semantic_class_columns(), pixels, model.semantic_categories),
        )
        if rows and target is not None
    ]
    for rows, columns, given, target in kinds:
        pairs = _same_names(given, target)
        for name in rows.keys() | columns.keys():
            if name in state and name in own:
                adapted[name] = _adapted(
                    state[name], own[name], rows.get(name), columns.get(name), (len(given), len(target)), pairs
                )
    _refuse(differences(model, adapted), f"{origin} is of another kind of model")
    model.load_state_dict(adapted)
    changed = [(given, target) for *_, given, target in kinds if given.names != target.names]
    return Transfer(
        arrays=len(adapted),
        source_classes=sum(len(given) for *_, given, _ in kinds),
        classes=sum(len(target) for *_, target in kinds),
        reused=tuple(name for given, target in changed for name in target.names if given.label_like(name) is not None),
        fresh=tuple(name for given, target in changed for name in target.names if given.label_like(name) is None),
    )


def _read(
    source: str | Path | Mapping[str, Tensor], categories: Categories | None
) -> tuple[dict[str, Tensor], Categories | None, Categories | None, str]:
    """State dict, categories of instances and of pixels where they are known, and what to call the source."""
    if isinstance(source, Mapping):
        return dict(source), categories, None, "the state dict"
    if Path(source).suffix == ".safetensors":
        return read_weights(Path(source)), categories, None, str(source)
    folder = find_model(source)
    if folder is None:
        weights = registry().expand("weights", {"name": str(source)})
        name = weights.pop("name")
        if name in registry().names("weights"):
            try:
                return registry().load("weights", name)(**weights), categories, None, str(source)
            except ValueError as error:
                raise ValueError(f"{error}. Or do without these weights: init=null") from error
        raise ValueError(
            f"{source} is not a model with weights; give a model directory, a run's directory, a safetensors file or "
            f"one of the published weights: {', '.join(registry().names('weights')) or 'none is installed'}"
        )
    meta = read_meta(folder)
    known, pixels = (
        Categories.from_dict(meta[key]) if key in meta else None for key in ("categories", "semantic_categories")
    )
    return read_weights(folder / "model.safetensors"), known, pixels, str(folder)


def _initialise_backbone(model: Detector, weights: Mapping[str, Tensor], origin: str) -> Transfer:
    """Copy a backbone's weights into the model's, and into the trunk of its heads where that is a part of it."""
    fitting = {"backbone": dict(weights)}
    for name, part in model.named_children():
        if isinstance(part, Backbone | RoiTrunk):
            fitting[name] = part.fit_weights(weights)
    fitting = {name: state for name, state in fitting.items() if state}
    for name, state in fitting.items():
        _refuse(differences(model.get_submodule(name), state), f"{origin} does not fit the model's {name}")
    for name, state in fitting.items():
        model.get_submodule(name).load_state_dict(state)
    others = tuple(name for name, part in model.named_children() if name not in fitting and part.state_dict())
    return Transfer(arrays=sum(map(len, fitting.values())), random=others)


def _backbone_arrays(model: Detector, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The backbone's state dict if `state` covers nothing else, with or without the prefix; else None."""
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        return None
    if state and all(name.startswith("backbone.") for name in state):
        return {name.removeprefix("backbone."): value for name, value in state.items()}
    own = model.state_dict()
    is_bare = not any(name in own for name in state) and any(f"backbone.{name}" in own for name in state)
    return dict(state) if is_bare else None


def _same_names(source: Categories, target: Categories) -> list[tuple[int, int]]:
    """(label in source, label in target) of the classes that both have."""
    found = [source.label_like(name) for name in target.names]
    return [(label, position) for position, label in enumerate(found) if label is not None]


def _adapted(
    given: Tensor,
    own: Tensor,
    rows: int | tuple[int, int] | None,
    columns: int | None,
    counts: tuple[int, int],
    pairs: Sequence[tuple[int, int]],
) -> Tensor:
    """`own` with what means the same in `given`; `given` itself, to be reported, if it is of another form.

    Args:
        given, own: of the source and of the model.
        rows, columns: that belong to each class, as `Detector.class_rows` and `class_columns` say, if any do.
        counts: classes of the source and of the model.
        pairs: of labels, in the source and in the model, of the classes that both have.
    """
    blocks, each = rows if isinstance(rows, tuple) else (1, rows)
    places = [_places((len(given), len(own)), each, counts, pairs, blocks)]
    if columns is not None:
        places.append(_places((given.shape[1], own.shape[1]), columns, counts, pairs, last=True))
    known = [each for each in places if each is not None]
    if len(known) < len(places) or given.shape[len(known) :] != own.shape[len(known) :]:
        return given
    adapted = own.clone()
    source, target = (torch.meshgrid(*(each[side] for each in known), indexing="ij") for side in (0, 1))
    adapted[target] = given[source]
    return adapted


def _places(
    lengths: tuple[int, int],
    per_class: int | None,
    counts: tuple[int, int],
    pairs: Sequence[tuple[int, int]],
    blocks: int = 1,
    *,
    last: bool = False,
) -> tuple[Tensor, Tensor] | None:
    """Which places of a dimension of these lengths, in source and model, mean the same; None if it is of another form.
    What belongs to classes comes first in each of the blocks, or `last`."""
    per_class = per_class or 0
    sides = []
    others = [length - blocks * count * per_class for length, count in zip(lengths, counts, strict=True)]
    if others[0] != others[1] or others[0] % blocks:
        return None
    free = others[0] // blocks
    for side, count in enumerate(counts):
        classes = torch.arange(count * per_class).view(count, per_class) + (free if last else 0)
        rest = torch.arange(free) + (0 if last else count * per_class)
        block = torch.cat([rest, *(classes[pair[side]] for pair in pairs)])
        sides.append(torch.cat([block + number * (free + count * per_class) for number in range(blocks)]))
    return sides[0], sides[1]


def _refuse(problems: Sequence[str], what: str) -> None:
    if problems:
        raise ValueError(f"{what}; arrays {'; '.join(problems)}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
