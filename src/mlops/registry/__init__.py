"""Where bundles are kept: register, model versions, aliases and the store of bundles by digest.

Imports the rooms up to `evaluation`. A new place that keeps bundles is a source in `store.py`.
"""
