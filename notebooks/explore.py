# Databricks notebook source
# DBTITLE 1,Explore: raw tables, features, leakage
# %% Explore: raw tables, features, leakage
# Run `make train` first, or `mlops ingest` and `mlops featurize`. Jupyter and Databricks start in
# the notebook's own folder; everything below is relative to the repository's root.
import os
import sys
from pathlib import Path

root = next(f for f in (Path.cwd(), *Path.cwd().parents) if (f / "params.yaml").exists())
os.chdir(root)
sys.path.insert(0, str(root / "src"))

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mlops.contract import dataset, params, paths, project
from mlops.data import engine

settings = params.load(params.Params)
schemas = project.tables(settings.project)
features = project.features(settings.project)
task = project.models(settings.project).task

# COMMAND ----------
# DBTITLE 1,Raw tables
# %% Raw tables
# The engine of params.yaml reads them where `ingest` wrote them. Each is a view for `session.sql`,
# in the SQL of Spark, which DuckDB gets translated.
session = engine.start(settings.engine)
for name in schemas:
    engine.read(session, paths.RAW / name).createOrReplaceTempView(name)


def missing_values(name: str) -> pd.DataFrame:
    """A row for each column of a table: the table's name and rows, the share of missing values."""
    columns = session.table(name).columns
    counts = ", ".join(f"count(`{column}`) AS `{column}`" for column in columns)
    counted = session.sql(f"SELECT count(*) AS every_row, {counts} FROM {name}").toArrow()
    found = counted.to_pandas().iloc[0]
    shares = 1 - found[columns].astype(float) / found["every_row"]
    return pd.DataFrame({"table": name, "rows": int(found["every_row"]), "missing": shares})


missing = pd.concat([missing_values(name) for name in schemas])
print(missing.groupby("table")["rows"].first().to_string())
print(missing[missing["missing"] > 0].sort_values("missing", ascending=False).head(15).to_string())

# COMMAND ----------
# DBTITLE 1,Feature table and outcome
# %% Feature table and outcome
# Training rows only: the holdout is for `evaluate` alone, and looking at it here would spoil it.
rows = dataset.read(paths.FEATURES / dataset.TRAINING)
rows = rows[rows[features.target].notna()]
classes = dataset.classes(rows, features, task)
outcome = pd.Series(dataset.target(rows, features, classes), index=rows.index, name="outcome")
print(f"{len(rows):,} rows, {len(features.features)} features, target {features.target} ({task})")
if classes:
    print(outcome.map(dict(enumerate(classes))).value_counts(normalize=True).to_string())
if features.day:
    weeks = outcome.groupby(rows[features.day].dt.to_period("W").dt.start_time).mean()
    figure, axes = plt.subplots(figsize=(8, 3))
    weeks.plot(ax=axes, title=f"{features.target}: mean by week")
    plt.show()

# COMMAND ----------
# DBTITLE 1,What each feature says alone, and leakage
# %% What each feature says alone, and leakage
# How much each feature tells of the outcome, in nats (mutual information, Kraskov et al. 2004). A
# feature that tells nearly all there is to know is likely to be known only after the outcome.
# `featurize` refuses what uses columns declared as outcomes; it can't know of those not declared.
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

sample = rows.sample(min(len(rows), 20_000), random_state=settings.seed)
inputs = dataset.inputs(sample, features)
named = dataset.categories(inputs)
numbers = inputs.assign(**{name: pd.factorize(inputs[name])[0] for name in named})
# A missing number is one below the least; a column without any value is constant.
numbers = numbers.astype(float).fillna(numbers.min(numeric_only=True) - 1).fillna(-1)
measure = mutual_info_classif if classes else mutual_info_regression
information = pd.Series(
    measure(
        numbers,
        outcome[sample.index],
        discrete_features=np.isin(numbers.columns, named),
        random_state=settings.seed,
    ),
    index=numbers.columns,
).sort_values()
figure, axes = plt.subplots(figsize=(8, 5))
information.tail(15).plot.barh(ax=axes, title=f"Information on {features.target}, nats")
plt.show()
print(information.tail(5)[::-1].to_string())
if classes:
    shares = outcome.value_counts(normalize=True)
    entropy = -float((shares * np.log(shares)).sum())
    suspects = information[information > 0.8 * entropy]
    print(f"the outcome has {entropy:.3f} nats; suspects:", ", ".join(suspects.index) or "none")
