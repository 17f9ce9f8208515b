"""Watches what an environment answered; says when that calls for another model."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.events import emit_event

from mlops.contract import params
from mlops.monitoring import watch
from mlops.monitoring.watch import Watched

ROOT = Path()
DRIFT = "mlops.drift"


@task(retries=2, retry_delay_seconds=[5, 30])
def judge(environment: str) -> Watched:
    """The newest windows of requests against the pinned bundle's reference."""
    return watch.run(params.load_all(ROOT), ROOT, environment)


@task
def show(watched: Watched) -> None:
    """The judgement as artifacts: a table of its reasons, its summary, a link to its report."""
    key = f"monitoring-{watched.environment}"
    create_table_artifact(
        [{"environment": watched.environment, "state": watched.state, "reason": reason}
         for reason in watched.reasons or ("none",)],
        key=f"{key}-reasons", description=watched.line,
    )  # fmt: skip
    for path in (watched.folder / "summary.md",):
        if path.exists():
            create_markdown_artifact(path.read_text(), key=f"{key}-summary")
    report = (watched.folder / "report.html").resolve()
    create_link_artifact(report.as_uri(), link_text=watched.state, key=f"{key}-report")


@task
def ask(watched: Watched) -> None:
    """Say that the model is to be retrained, and why: an automation starts it."""
    emit_event(
        DRIFT,
        resource={"prefect.resource.id": f"mlops.environment.{watched.environment}"},
        payload={
            "digest": watched.digest,
            "reason": f"{watched.environment}: {'; '.join(watched.reasons)}",
        },
    )


@flow
def monitoring(environment: str = "production") -> str:
    """Judge one environment; what it says to do is `ok`, `watch` or `retrain`."""
    watched = judge(environment)
    print(watched.line)
    show(watched)
    if watched.state == "retrain":
        ask(watched)
    return watched.state
