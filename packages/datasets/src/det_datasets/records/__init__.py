"""Detectron2's lists of dicts, made by Python code."""
