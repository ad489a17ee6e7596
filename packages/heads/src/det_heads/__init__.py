"""Detectors, proposal generators, heads and their recipes for detkit."""
