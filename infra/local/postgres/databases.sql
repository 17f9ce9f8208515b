-- One database for each server; PostgreSQL runs this file at its first start.
CREATE DATABASE mlflow;
CREATE DATABASE prefect;
