"""A detector as a program of `torch.export`: what it computes, without its Python."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from detkit.detector import Detector, evaluating
from detkit.structures.input_spec import padded_size
from detkit.structures.proposals import Proposals


class Detect(nn.Module):
    """`Detector.detect` as a module's forward, which is what `torch.export` and `torch.compile` take."""

    model: Any  # a Detector, some of which take proposals as well

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, sizes: Tensor, *proposals: Tensor) -> dict[str, Tensor]:
        """uint8 RGB images (B, 3, H, W) and their sizes (B, 2) height, width -> what `Detector.detect` answers. For a
        model that needs proposals, also their boxes (B, N, 4), scores and valid (B, N)."""
        given = (Proposals(*proposals),) if proposals else ()
        found: dict[str, Tensor] = self.model.detect(images, sizes, *given)
        return found


def export_program(
    model: Detector, height: int, width: int, *, batch_size: int = 1, proposals: int = 1000
) -> torch.export.ExportedProgram:
    """Export a model's evaluation mode for images of one size; preprocessing is inside, pasting masks is not.

    `program.module()(images, sizes)` answers as `model.detect` does. `torch.export.save` writes it; whoever loads it
    imports `detkit.program` first, for the operators.

    Args:
        model: is exported in evaluation mode, and left in the mode in which it was found.
        height, width: of the padded images, in pixels: multiples of `model.divisor`, equal and at least
            `model.input.square` where that is not 0.
        batch_size: images at a time.
        proposals: how many come with each image, for a model that makes none of its own; the program then takes them as
            `Detect.forward` does.

    Raises:
        ValueError: images are not padded to such a size.
    """
    square = model.input.square
    fitting = padded_size(height, width, model.divisor, square)
    if (height, width) != fitting:
        shape = f" in squares of at least {square}" if square else ""
        raise ValueError(
            f"images of {height} x {width} pixels do not suit the model, which needs multiples of {model.divisor}"
            f"{shape}; the next size is {fitting[0]} x {fitting[1]}"
        )
    inputs = example_inputs(model, height, width, batch_size=batch_size, proposals=proposals)
    with evaluating(model), torch.no_grad():
        return torch.export.export(Detect(model), inputs, strict=False)


def example_inputs(
    model: Detector, height: int, width: int, *, batch_size: int = 1, proposals: int = 1000
) -> tuple[Tensor, ...]:
    """What `Detect.forward` takes for this model, on its device, for images of one padded size."""
    images = torch.zeros(batch_size, 3, height, width, dtype=torch.uint8, device=model.device)
    sizes = torch.tensor([[height, width]] * batch_size, device=model.device)
    if not model.needs_proposals:
        return images, sizes
    boxes = torch.zeros(batch_size, proposals, 4, device=model.device)
    return images, sizes, boxes, boxes[..., 0], torch.ones(batch_size, proposals, dtype=torch.bool, device=model.device)
