"""A plugin with a detector, a dataset, an evaluator and a callback that are small enough to test the engine with."""
