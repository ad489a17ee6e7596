from __future__ import annotations

from detkit.plugins import Component, hookimpl


@hookimpl
def detkit_components() -> list[Component]:
    classes = {
        "detector": {"sample/detector": "Pipeline"},
        "backbone": {"sample/plain": "Plain", "sample/wide": "Wide"},
        "neck": {"sample/neck": "Widen"},
        "roi_head": {"sample/head": "Head"},
        "optimizer": {"sample/sgd": "Descent"},
        "schedule": {"sample/flat": "Flat"},
    }
    return [
        *(
            Component(kind=kind, name=name, target=f"sample.parts:{target}")
            for kind, names in classes.items()
            for name, target in names.items()
        ),
        *(
            Component(kind="recipe", name=f"sample/{name}", target=f"sample:recipes/{name}.yaml", summary=name)
            for name in ("first", "second")
        ),
    ]
