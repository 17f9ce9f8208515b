# Databricks notebook source
# DBTITLE 1,The engine of params.yaml, from R
# %% The engine of params.yaml, from R
# On a laptop: Rscript notebooks/explore.R, in the repository's root, after `mlops ingest`; the package
# reticulate starts the Python of the PATH, that of .venv. On Databricks sparklyr asks the cluster.
if (nzchar(Sys.getenv("DATABRICKS_RUNTIME_VERSION"))) {
  cluster <- sparklyr::spark_connect(method = "databricks")
  query <- function(text) DBI::dbGetQuery(cluster, text)
} else {
  Sys.setenv(RETICULATE_PYTHON = Sys.which("python"))
  mlops <- reticulate::import("mlops.data.engine")
  settings <- reticulate::import("mlops.contract.params")
  paths <- reticulate::import("pathlib")
  session <- mlops$start(settings$load(settings$Params)$engine)
  for (name in list.dirs("data/raw", full.names = FALSE, recursive = FALSE)) {
    mlops$read(session, paths$Path("data/raw", name))$createOrReplaceTempView(name)
  }
  query <- function(text) as.data.frame(session$sql(text)$toArrow()$to_pydict())
}

# COMMAND ----------
# DBTITLE 1,Late flights by hour of the timetable
# %% Late flights by hour of the timetable
hours <- query("
  SELECT hour, count(arr_delay) AS arrived, avg(int(arr_delay > 15)) AS late
  FROM flights GROUP BY hour HAVING count(arr_delay) > 0 ORDER BY hour")
print(hours)

# COMMAND ----------
# DBTITLE 1,Does the hour explain lateness?
# %% Does the hour explain lateness?
model <- glm(late ~ hour, family = quasibinomial, weights = arrived, data = hours)
print(summary(model)$coefficients)
if (interactive()) {
  plot(hours$hour, hours$late, type = "b", xlab = "hour", ylab = "share late")
  lines(hours$hour, fitted(model), lty = 2)
}
