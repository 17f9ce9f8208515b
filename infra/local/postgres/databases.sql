-- A database for each server, at the first start.
CREATE DATABASE mlflow;
CREATE DATABASE prefect;
