"""A job of databricks.yml: started, and watched until it ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from mlops.base.errors import UserError, one_line
from mlops.deploy.databricks import endpoint as api

if TYPE_CHECKING:
    from databricks.sdk.service.jobs import Run

LONGEST_RUN = timedelta(days=1)


def run(name: str, show: Callable[[str], None]) -> str:
    """Run a job, showing each task's changes; gives the run's page. UserError when it fails."""
    from databricks.sdk.errors import OperationFailed

    runs: list[Run] = []
    with api.one_line_errors(f"run the job {name}", "CAN MANAGE RUN on the job"):
        jobs, seen = api.client().jobs, dict[str, str]()
        named = [job.job_id for job in jobs.list(name=name)]
        if len(named) != 1 or named[0] is None:
            raise UserError(
                f"Databricks: jobs of the name {name!r}: found {len(named)}, expected 1; "
                "`databricks bundle deploy`, and see `databricks bundle summary` for names"
            )

        def progress(run: Run) -> None:
            runs.append(run)
            for task in run.tasks or ():
                value = task.state and (task.state.result_state or task.state.life_cycle_state)
                if value and seen.get(task.task_key) != value.value:
                    seen[task.task_key] = value.value
                    show(f"{task.task_key}: {value.value}")

        # Where the response to a request is lost, the next one starts no second run.
        started = jobs.run_now(named[0], idempotency_token=uuid4().hex)
        with suppress(OperationFailed):
            progress(jobs.wait_get_run_job_terminated_or_skipped(
                started.run_id, LONGEST_RUN, progress
            ))  # fmt: skip
    ended = runs[-1]
    state = ended.state
    if not state or not state.result_state or state.result_state.value != "SUCCESS":
        value = state and (state.result_state or state.life_cycle_state)
        reason = one_line((state and state.state_message) or "no reason given")
        raise UserError(
            f"Databricks: job {name}: found {value.value if value else None}, expected SUCCESS: "
            f"{reason} ({ended.run_page_url})"
        )
    return str(ended.run_page_url)
