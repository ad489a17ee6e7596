"""PASCAL VOC: reader, writer and metrics."""
