"""Training augmentation: torchvision.transforms.v2 as components, and what it lacks."""
