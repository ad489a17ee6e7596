"""DOTA's oriented boxes in aerial images: reader and writer."""
