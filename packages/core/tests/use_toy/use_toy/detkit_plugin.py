from __future__ import annotations

from detkit.plugins import Component, hookimpl


@hookimpl
def detkit_components() -> list[Component]:
    return [
        Component(kind="detector", name="use/colours", target="use_toy.colours:ColourDetector"),
        Component(kind="detector", name="use/painted", target="use_toy.painted:PaintedDetector"),
        Component(kind="recipe", name="use/colours-recipe", target="use_toy:recipe.yaml"),
    ]
