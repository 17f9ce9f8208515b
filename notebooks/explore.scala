// Databricks notebook source
// DBTITLE 1,Raw tables
// %% Raw tables
// On a laptop: spark-shell -I notebooks/explore.scala, in the repository's root, after
// `mlops ingest`. On Databricks, where a catalog has the tables, read spark.table("catalog.schema.flights").
import org.apache.spark.sql.functions._

val flights = spark.read.parquet("data/raw/flights")
flights.printSchema()

// COMMAND ----------
// DBTITLE 1,Late flights of each carrier
// %% Late flights of each carrier
val late = (col("arr_delay") > 15).cast("int")
val carriers = flights.groupBy("carrier").agg(count("arr_delay").as("arrived"), round(avg(late), 3).as("late"))
carriers.orderBy(desc("late")).show()

// COMMAND ----------
// DBTITLE 1,The worst days
// %% The worst days
val days = flights.groupBy("date").agg(count("arr_delay").as("arrived"), round(avg(late), 3).as("late"))
days.where(col("arrived") > 100).orderBy(desc("late"), col("date")).show(5)
