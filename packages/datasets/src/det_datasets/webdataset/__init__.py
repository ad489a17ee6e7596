"""WebDataset's layout: tar shards in which every image has a JSON file with its annotations beside it."""
