"""Reads Detectron2's configs and checkpoints, and writes detkit models.

import det_detectron2
det_detectron2.convert("config.yaml", "model_final.pkl", "my-model")
"""

from __future__ import annotations

from pathlib import Path


def convert(config: str | Path, weights: str | Path, out: str | Path) -> Path:
    """Turn a Detectron2 config, as its training dumps it, and a checkpoint (.pkl, .pth) into a detkit model directory.

    Returns:
        The directory, which `detkit.load` reads.

    Raises:
        ValueError: a config key or an array without counterpart, all listed; an unreadable or unsafe file.
    """
    from det_detectron2.conversion import convert as convert_files  # brings torch, which a plugin module must not

    return convert_files(Path(config), Path(weights), Path(out))
