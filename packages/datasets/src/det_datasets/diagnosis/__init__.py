"""What a detector gets wrong, and how: the evaluator "diagnosis"."""
