"""What backbones share that fit published weights to themselves (`fit_weights`)."""

from __future__ import annotations

import re

from torch import Tensor, nn

COUNTS = r"\.num_batches_tracked$"  # in the names of what batch norms count


def own_arrays(module: nn.Module, pattern: str) -> dict[str, Tensor]:
    """The arrays of a module in whose names the regular expression is found: published weights lack them, and they
    begin from what they are."""
    return {name: value for name, value in module.state_dict().items() if re.search(pattern, name)}
