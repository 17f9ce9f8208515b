"""Says how the world differs from what Git pins; changes nothing."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact

from mlops.base.errors import Refused
from mlops.contract import params
from mlops.gitops import reconcile

ROOT = Path()


@task(retries=2, retry_delay_seconds=[5, 30])
def differences(environment: str) -> list[str]:
    """How one environment differs, a line each."""
    return reconcile.differences(params.load_all(ROOT), ROOT, environment)


@flow
def reconcile_check(environments: tuple[str, ...] = ("staging", "production")) -> None:
    """Check every environment; raises Refused with all that differs, as `--check` does."""
    found = {environment: differences(environment) for environment in environments}
    create_table_artifact(
        [{"environment": name, "difference": "; ".join(lines) or "none"}
         for name, lines in found.items()],
        key="reconcile-check",
    )  # fmt: skip
    differing = [line for lines in found.values() for line in lines]
    if differing:
        raise Refused("; ".join(differing))
    print("\n".join(f"{name}: as environments/{name}.yaml says" for name in environments))
