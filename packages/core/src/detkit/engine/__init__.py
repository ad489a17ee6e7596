"""The training engine: one loop, and the objects that are built for it."""
