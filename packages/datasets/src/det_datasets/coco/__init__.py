"""Datasets in COCO's JSON format, and the metrics that COCO defines."""
