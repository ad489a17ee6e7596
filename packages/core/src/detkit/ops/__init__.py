"""Operators: batched, of fixed capacity, free of device synchronisation."""
