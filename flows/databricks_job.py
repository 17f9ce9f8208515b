"""Run a job on Databricks, such as the training whose tasks are the stages, and watch it."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_link_artifact

from mlops.deploy.databricks import job as jobs


@flow
def databricks_job(job: str) -> str:
    """Start the job of this name, show its tasks' progress; the run fails where the job does."""
    page = jobs.run(job, print)
    create_link_artifact(page, link_text=job, key="databricks-job")
    return page
