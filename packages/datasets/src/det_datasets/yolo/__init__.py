"""YOLO's folders of text files: reader and writer."""
