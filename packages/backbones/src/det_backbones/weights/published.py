"""What the files of this folder share: where torchvision publishes, downloads, and arrays under other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from detkit.download import digits_in_name, download
from detkit.foreign import read_foreign_checkpoint, rename

TORCHVISION = "https://download.pytorch.org/models"


def fetched(url: str) -> dict[str, Tensor]:
    """The arrays of a published checkpoint, checked against the digits of its checksum where its name ends with them.

    Raises:
        ValueError: it cannot be downloaded or read.
    """
    return read_foreign_checkpoint(download(url, digits_in_name(url)))


def renamed(
    state: Mapping[str, Tensor], names: Sequence[tuple[str, str]], left_out: Sequence[str], title: str
) -> dict[str, Tensor]:
    """Arrays under our names, without batch norms' counts of the batches that they have seen.

    Args:
        names: rules, see `detkit.foreign.rename`.
        left_out: regular expressions of what is not of the backbone, such as the classifier.
        title: whose arrays these should be, for messages: "a ResNet".

    Raises:
        ValueError: an array that no rule knows.
    """
    found, strangers = rename(state, names, (*left_out, r".+\.num_batches_tracked"))
    refuse(strangers, title)
    return found


def refuse(strangers: Sequence[str], title: str) -> None:
    """An error that names the first arrays that nobody knows, if there are any; `title`: see `renamed`."""
    if strangers:
        raise ValueError(f"not the arrays of {title}: {', '.join(strangers[:8])}")
