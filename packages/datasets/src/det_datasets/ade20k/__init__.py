"""ADE20K: scenes, every pixel labelled."""
