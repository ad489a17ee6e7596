"""Where images come from: folders, tar shards and URLs."""
