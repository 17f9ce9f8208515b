"""The monitoring flow: assess an environment, and emit an event when it needs retraining."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed

from mlops.contract import params
from mlops.monitoring import watch
from mlops.monitoring.assessment import Assessment
from mlops.monitoring.params import Params

ROOT = Path()
DRIFT = "mlops.drift"


@task(retries=2, retry_delay_seconds=[5, 30])
def assess(environment: str) -> Assessment | str:
    """Compare the newest windows of requests with the pinned bundle's reference, or say why not."""
    try:
        return watch.run(params.load(Params, ROOT), ROOT, environment)
    except watch.NothingYet as reason:
        return f"nothing is deployed yet: {reason}"


@task
def show(assessment: Assessment) -> None:
    """Create artifacts: a table of the reasons, the summary, a link to the report."""
    key = f"monitoring-{assessment.environment}"
    create_table_artifact(
        [{"environment": assessment.environment, "state": assessment.state, "reason": reason}
         for reason in assessment.reasons or ("none",)],
        key=f"{key}-reasons", description=assessment.line,
    )  # fmt: skip
    summary = (assessment.folder / watch.SUMMARY).read_text(encoding="utf-8")
    create_markdown_artifact(summary, key=f"{key}-summary")
    report = (assessment.folder / watch.REPORT).resolve()
    create_link_artifact(report.as_uri(), link_text=assessment.state, key=f"{key}-report")


@task
def request_retraining(assessment: Assessment) -> None:
    """Emit the event that an automation answers with a retraining."""
    emit_event(
        DRIFT,
        resource={"prefect.resource.id": f"mlops.environment.{assessment.environment}"},
        payload={
            "digest": assessment.digest,
            "reason": f"{assessment.environment}: {'; '.join(assessment.reasons)}",
        },
    )


@flow
def monitoring(environment: str = "production") -> str | State[str]:
    """Assess one environment; gives `ok`, `watch` or `retrain`, or a line before it is deployed."""
    assessment = assess(environment)
    if isinstance(assessment, str):
        print(assessment)
        return Completed(message=assessment)
    print(assessment.line)
    show(assessment)
    if assessment.state == "retrain":
        request_retraining(assessment)
    return assessment.state
