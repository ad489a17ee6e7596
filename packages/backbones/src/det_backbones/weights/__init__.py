"""Published ImageNet weights, one file for each family of backbones: downloads, and conversion to our names."""
