"""From images in any form to predictions in their own pixels: reading, resizing, batching, filtering."""

from detkit.predict.pipeline import predict, stream

__all__ = ["predict", "stream"]
