# Databricks notebook source
# DBTITLE 1,Compare runs
# %% Compare runs
# What MLflow holds of this project: the runs of the server that MLFLOW_TRACKING_URI names, or of
# the repository's own store.
import os
import sys
from pathlib import Path

root = next(f for f in (Path.cwd(), *Path.cwd().parents) if (f / "params.yaml").exists())
os.chdir(root)
sys.path.insert(0, str(root / "src"))

import matplotlib.pyplot as plt
import mlflow
import pandas as pd

from mlops.contract import params
from mlops.pipeline import tracking_server

settings = params.load(params.Params)
mlflow.set_tracking_uri(tracking_server.uri(root))
experiment = tracking_server.experiment_name(settings.model, root)
runs = mlflow.search_runs(experiment_names=[experiment], max_results=5_000)
runs = runs.rename(columns={"tags.mlflow.runName": "run", "tags.mlflow.parentRunId": "parent"})
print(f"{experiment}: {len(runs)} runs" + ("" if len(runs) else "; make train makes the first"))

# COMMAND ----------
# DBTITLE 1,Models and their metrics
# %% Models and their metrics
# A column for each metric of the evidence; a run is here once `evaluate` has scored its bundle.
names = [name for name in runs if name.startswith("metrics.holdout_")]
scored = runs.dropna(how="all", subset=names) if names else pd.DataFrame({"run": []})
table = scored.set_index("run")[names].rename(columns=lambda name: name.removeprefix("metrics."))
print(table.head(10).T.round(4).to_string())

# COMMAND ----------
# DBTITLE 1,Trials of the searches
# %% Trials of the searches
# Each trial is a run below its search: its loss, by family.
trials = runs[runs["parent"].notna()] if "parent" in runs else runs.iloc[:0]
if "metrics.loss" in trials and "params.family" in trials:
    losses = trials.groupby("params.family")["metrics.loss"]
    print(losses.agg(["count", "min", "median"]).sort_values("min").to_string())
    figure, axes = plt.subplots(figsize=(8, 3))
    for family, loss in losses:
        when = pd.to_datetime(trials.loc[loss.index, "start_time"])
        axes.scatter(when, loss, label=family)
    axes.set_title("Loss of each trial")
    axes.legend()
    plt.show()
