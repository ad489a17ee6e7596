"""Detectron2's YAML configs, read so that no key can be overlooked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from det_detectron2 import mapping
from det_detectron2.lazy import LazyLoader, is_lazy, resolved
from det_detectron2.mapping import Detectron2Mapping
from detkit.plugins import registry

NORMS = {"": "", "BN": "bn", "SyncBN": "sync_bn", "FrozenBN": "frozen_bn", "GN": "gn", "LN": "ln"}
"""Detectron2's names of norms -> detkit's."""

# Keys that describe training, data or the machine: a converted model answers the same whatever they say. Everything
# else
# has to be used by a mapping, or be left by it as part of a module that the config does not build.
CANNOT_MATTER = (
    "CUDNN_BENCHMARK",
    "DATALOADER",
    "DATASETS",
    "FLOAT32_PRECISION",
    "GLOBAL",
    "INPUT.CROP",
    "INPUT.MASK_FORMAT",
    "INPUT.MAX_SIZE_TRAIN",
    "INPUT.MIN_SIZE_TRAIN",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING",
    "INPUT.RANDOM_FLIP",
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",
    "OUTPUT_DIR",
    "SEED",
    "SOLVER",
    "TEST.AUG",  # test-time augmentation is asked for when predicting, not a property of the model
    "TEST.EVAL_PERIOD",
    "TEST.EXPECTED_RESULTS",
    "TEST.KEYPOINT_OKS_SIGMAS",
    "TEST.PRECISE_BN",
    "VERSION",
    "VIS_PERIOD",
)


class Detectron2Config:
    """A config whose keys are taken one by one; `problems` tells which nobody took.

    Args:
        tree: nested mappings, as in Detectron2's `config.yaml`.
        problems: what is known already not to be convertible.

    Attributes:
        mappings: those of plugins that its parts were read with.
    """

    def __init__(self, tree: Mapping[str, Any], problems: Sequence[str] = ()) -> None:
        self._values = dict(flatten(tree))
        self._taken: set[str] = set()
        self._problems = list(problems)
        self.mappings: list[Detectron2Mapping] = []

    @classmethod
    def read(cls, path: Path) -> Detectron2Config:
        """Read a file, safely: tags that would run code are refused. A python ("lazy") config, as Detectron2 writes it
        into its output folder, is read as the YAML config that means the same.

        Raises:
            ValueError: not YAML, not a Detectron2 config, or one that is not complete.
        """
        try:
            tree = yaml.load(path.read_text(encoding="utf-8"), LazyLoader)  # a safe loader
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}; give Detectron2's config.yaml") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not plain YAML: {error}") from error
        if is_lazy(tree):
            from det_detectron2.lazy_targets import TARGETS, as_keys  # whose modules need this one

            return cls(*as_keys(resolved(tree), TARGETS))
        if not isinstance(tree, dict) or not isinstance(tree.get("MODEL"), dict):
            raise ValueError(f"{path} is not a Detectron2 config: it has no MODEL section")
        if "_BASE_" in tree:
            raise ValueError(
                f"{path} builds on {tree['_BASE_']}; give the complete config.yaml that Detectron2 writes into its "
                "output folder when it trains"
            )
        return cls(tree)

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default of one that Detectron2's YAML configs do not have.

        Raises:
            ValueError: the config does not have it, and it has no default.
        """
        if key not in self._values:
            if default is not None:
                return default
            raise ValueError(f"the config has no {key}; give the complete config.yaml of Detectron2 (version 2)")
        self._taken.add(key)
        return self._values[key]

    def expect(self, key: str, *allowed: Any) -> Any:
        """The value of a key that detkit can only follow where it is one of `allowed`; anything else is a problem."""
        value = self.take(key)
        if value not in allowed:
            wanted = " or ".join(repr(choice) for choice in allowed)
            self._problems.append(f"{key} is {value!r}; only {wanted} has a counterpart")
        return value

    def part(self, key: str, own: Mapping[str, Callable[[Detectron2Config], Any]]) -> Any:
        """The component tree of the part that a key names: one of this package's `own`, or of a plugin's, see
        `Detectron2Mapping`. Another is a problem, and is read like the first of `own`, so that it is the only one."""
        name = self.take(key)
        if name in own:
            return own[name](self)
        if found := mapping.find(name):
            self.mappings.append(found)
            return found.tree(self)
        wanted = " or ".join(map(repr, own))
        self._problems.append(f"{key} is {name!r}; only {wanted} has a counterpart{mapping.advice(name)}")
        return next(iter(own.values()))(self)

    def unused(self, *prefixes: str) -> None:
        """Leave out sections of modules that this config does not build."""
        self._taken.update(key for key in self._values if below(key, prefixes))

    def problems(self) -> list[str]:
        """What cannot be converted: values without counterpart, and keys that nobody took."""
        leftover = sorted(key for key in self._values if key not in self._taken and not below(key, CANNOT_MATTER))
        if leftover:
            absent = tuple(self._keys_of_absent_parts())
            leftover = [key for key in leftover if not below(key, absent)]
        return self._problems + [f"{key} (= {self._values[key]!r}) has no counterpart" for key in leftover]

    def _keys_of_absent_parts(self) -> Iterator[str]:
        """What projects add to every config for parts that this one does not have."""
        used = {key for each in self.mappings for key in each.keys}
        for component in registry().components(mapping.KIND):
            yield from set(registry().load(mapping.KIND, component.name).keys) - used


def below(key: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a key such as "MODEL.RPN.NMS" is one of the prefixes, or in a section that is."""
    return any(key == prefix or key.startswith(prefix + ".") for prefix in prefixes)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of nested mappings, keys with dots."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
