"""Curves in TensorBoard."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.interfaces import Tracker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Tracker):
    """Writes the run's metrics and pictures for TensorBoard: `tensorboard --logdir RUN`.

    Args:
        folder: in the run directory.

    Raises:
        ValueError: the extra is not installed.
    """

    def __init__(self, *, folder: str = "tensorboard") -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ValueError("the tracker tensorboard needs an extra: pip install 'det-core[tensorboard]'")
        self.folder = folder
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> SummaryWriter:
        assert self._writer is not None, "start comes first"
        return self._writer

    def start(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """Open; curves of a resumed run are cut at `step`."""
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer = SummaryWriter(str(folder / self.folder), purge_step=step + 1 if step else None)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a point to the curve of each metric."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, picture: Any) -> None:
        """Add a PIL image."""
        import numpy as np

        self.writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def finish(self) -> None:
        """Close."""
        self.writer.close()
