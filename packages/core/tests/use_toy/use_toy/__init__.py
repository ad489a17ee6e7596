"""A plugin with a detector whose answers can be told in advance, to test loading, prediction and drawing with."""
