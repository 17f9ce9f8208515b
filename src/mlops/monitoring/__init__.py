"""What deployed models answered: drift, performance and the decision to retrain.

Imports the rooms up to `gitops`. A new signal is a module beside `drift.py`, called by `watch.py`
and judged in `decision.py`.
"""
