"""Predictions as proposals for other models: the file that `detkit.data.proposals` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.data.proposals import write_proposals
from detkit.structures.prediction import Prediction


class SavedProposals:
    """Collects the boxes and scores of predictions; `write` writes them when they are complete. Images count from 1.

    Args:
        path: of the `.npz` file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._boxes: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float32]] = []
        self._names: list[str] = []

    def add(self, prediction: Prediction) -> None:
        """Add what was found on one image.

        Raises:
            ValueError: the model finds no boxes.
        """
        if "boxes" not in prediction or prediction.boxes.shape[1] != 4:
            raise ValueError("this model finds no upright boxes, so there are no proposals to save")
        self._boxes.append(prediction.boxes.numpy(force=True).astype(np.float32))
        self._scores.append(prediction.scores.numpy(force=True).astype(np.float32))
        self._names.append(Path(prediction.path or f"image-{len(self._names) + 1}").name)

    def write(self) -> None:
        """Write the file."""
        write_proposals(self.path, range(1, len(self._names) + 1), self._boxes, self._scores, self._names)
