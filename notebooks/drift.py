# Databricks notebook source
# DBTITLE 1,Look into drift
# %% Look into drift
# How far each feature of the holdout has moved, month by month, from what the bundle knew; and how
# well the model did meanwhile. Answers of a deployed service: `mlops monitor` and its report.
import os
import sys
from pathlib import Path

root = next(f for f in (Path.cwd(), *Path.cwd().parents) if (f / "params.yaml").exists())
os.chdir(root)
sys.path.insert(0, str(root / "src"))

import matplotlib.pyplot as plt
import pandas as pd

from mlops.contract import bundle, dataset, params, paths, project
from mlops.evaluation.stability import index_beyond_chance
from mlops.monitoring import bins

settings = params.load(params.Params)
features = project.features(settings.project)
card = bundle.read_card(paths.BUNDLE)
known = pd.read_parquet(paths.BUNDLE / bundle.REFERENCE)
later = dataset.read(paths.FEATURES / dataset.HOLDOUT)


def months(rows: pd.DataFrame) -> pd.Series:
    """Each row's month; one period where rows have no day."""
    if features.day:
        return rows[features.day].dt.to_period("M").astype(str)
    return pd.Series("holdout", index=rows.index)


# COMMAND ----------
# DBTITLE 1,Drift of each feature
# %% Drift of each feature
# The population stability index beyond chance, as monitoring measures it: above 0.25 it is large.
drift = {}
for column in card.inputs:
    cut = (bins.categorical if column.type == "string" else bins.numeric)(known[column.name])
    before = cut.counts(known[column.name])
    drift[column.name] = {
        month: index_beyond_chance(before, cut.counts(rows[column.name]))
        for month, rows in later.groupby(months(later))
    }
table = pd.DataFrame(drift).T
table = table.loc[table.max(axis=1).sort_values(ascending=False).index]
print(table.head(12).round(3).to_string())
figure, axes = plt.subplots(figsize=(8, 6))
image = axes.imshow(table.head(20), aspect="auto", vmin=0, vmax=0.5, cmap="Blues")
axes.set_xticks(range(table.shape[1]), table.columns)
axes.set_yticks(range(min(20, len(table))), table.index[:20])
axes.set_title("Population stability index")
figure.colorbar(image)
plt.show()

# COMMAND ----------
# DBTITLE 1,How the model did meanwhile
# %% How the model did meanwhile
# What was predicted for the holdout, as `evaluate` wrote it, beside what happened.
scored = pd.read_parquet(paths.EVIDENCE / dataset.HOLDOUT)
if card.task == "multiclass":
    predicted = scored.filter(regex=r"^prediction_\d+$").to_numpy().argmax(axis=1)
    result = (predicted == scored["outcome"]).groupby(months(scored)).mean().to_frame("share right")
else:
    result = scored.groupby(months(scored))[["outcome", "prediction"]].mean()
print(result.round(4).to_string())
figure, axes = plt.subplots(figsize=(8, 3))
result.plot(ax=axes, marker="o", title="Mean of a month", xlabel="")
plt.show()
