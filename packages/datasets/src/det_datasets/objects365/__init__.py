"""Datasets in Objects365's format."""
