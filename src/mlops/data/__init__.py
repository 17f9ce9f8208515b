"""From raw tables to the feature table: ingest, featurize, as of a day; engines and validation.

Imports `base`, `contract` and `pipeline`. A new kind of source is a file in `sources/`, a new place
for predictions one in `sinks/`.
"""
