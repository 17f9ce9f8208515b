"""From the feature table to a bundle: tune, train, model families, search and ONNX export.

Imports the rooms up to `data`. A new model family is a file in `families/`.
"""
