"""Prefect flows: when and where the code in `mlops` runs. The only place that imports Prefect.

A new flow is a file here; `prefect.yaml` schedules it.
"""

import os

# Prefect's library sends usage data to its vendor unless this is set.
os.environ.setdefault("DO_NOT_TRACK", "1")
