"""What flows through the toolkit: samples, batches and predictions, with the facts that they carry."""
