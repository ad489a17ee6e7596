from __future__ import annotations

from detkit.plugins import Component, hookimpl


@hookimpl
def detkit_components() -> list[Component]:
    return [
        Component(kind="detector", name="toy/toy", target="toy_engine.detector:ToyDetector"),
        Component(kind="dataset", name="toy/toy", target="toy_engine.dataset:ToyDataset"),
        Component(kind="evaluator", name="toy/toy", target="toy_engine.evaluator:ToyEvaluator"),
        Component(kind="callback", name="toy/toy", target="toy_engine.callback:ToyCallback"),
    ]
