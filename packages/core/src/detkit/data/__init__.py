"""From files on disk to batches: sources, images, transforms and loaders."""
