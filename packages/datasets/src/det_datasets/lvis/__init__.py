"""Datasets in LVIS's format, and the metrics that LVIS defines."""
