"""Open Images' boxes: reader and writer."""
