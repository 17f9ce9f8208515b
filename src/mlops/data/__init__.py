"""From raw tables to the feature table: ingest, featurize, engines, validation and sources.

Imports `base`, `contract` and `pipeline`. A new kind of source is a file in `sources/`.
"""
