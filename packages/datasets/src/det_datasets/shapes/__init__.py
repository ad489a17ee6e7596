"""A seeded practice dataset: shapes on textured backgrounds, with the annotations that real COCO files have."""
