"""What det-detectron2 provides."""

from __future__ import annotations

from detkit.plugins import Component, hookimpl


@hookimpl
def detkit_components() -> list[Component]:
    return [
        Component(
            kind="checkpoint_format",
            name="detectron2",
            target="det_detectron2.conversion:Detectron2Format",
            summary="Detectron2's config.yaml and .pkl or .pth checkpoints, or a model of its zoo by name",
        ),
        Component(
            kind="checkpoint_format",
            name="detectron",
            target="det_detectron2.caffe2:DetectronFormat",
            summary="Detectron's (Caffe2) YAML configs and .pkl checkpoints",
        ),
    ]
