"""The evidence for a bundle: evaluate, metrics, baselines and the report.

Imports the rooms up to `training`. A new metric goes to `metrics.py`, a project's own into a
module of the project's; a chart to `report/`.
"""
