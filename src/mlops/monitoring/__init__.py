"""What deployed models answered: drift, performance and the decision to retrain.

Imports the rooms up to `gitops`. A new signal is a module beside `drift.py`, used by `watch.py`.
"""
