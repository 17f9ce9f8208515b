-- Databricks notebook source
-- DBTITLE 1,Raw tables as views
-- %% Raw tables as views
-- On a laptop: spark-sql -f notebooks/explore.sql, in the repository's root, after `mlops ingest`.
-- On Databricks, where a catalog has the tables, say USE catalog.schema instead of this cell.
CREATE OR REPLACE TEMPORARY VIEW flights AS SELECT * FROM parquet.`data/raw/flights`;
CREATE OR REPLACE TEMPORARY VIEW weather AS SELECT * FROM parquet.`data/raw/weather`;

-- COMMAND ----------
-- DBTITLE 1,How often flights are late
-- %% How often flights are late
SELECT origin, count(arr_delay) AS arrived, round(avg(int(arr_delay > 15)), 3) AS late
FROM flights
GROUP BY origin
ORDER BY late DESC;

-- COMMAND ----------
-- DBTITLE 1,By hour of the timetable
-- %% By hour of the timetable
SELECT hour, count(arr_delay) AS arrived, round(avg(int(arr_delay > 15)), 3) AS late
FROM flights
GROUP BY hour
HAVING arrived > 0
ORDER BY hour;

-- COMMAND ----------
-- DBTITLE 1,In rain and in dry hours
-- %% In rain and in dry hours
SELECT w.precip > 0 AS rain, count(f.arr_delay) AS arrived,
    round(avg(int(f.arr_delay > 15)), 3) AS late
FROM flights AS f
JOIN weather AS w ON f.origin = w.origin AND f.time_hour = w.time_hour
GROUP BY rain
ORDER BY rain;
