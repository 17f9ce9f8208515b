"""MLflow runs, found again by what they made rather than by an id.

A search, a bundle and its evidence are each tracked under the digest of their files. So a stage
tracks as it ends, and `register` can write whatever is missing in *this* tracking server: the
same functions do both, and doing it twice changes nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base import documents
from mlops.base.environment import without_credentials
from mlops.base.errors import UserError, one_line
from mlops.base.files import alone, folder_digest, read_json, whole_file
from mlops.contract import bundle as bundles
from mlops.contract.params import FILE
from mlops.contract.paths import BUNDLE, EVIDENCE, SEARCH
from mlops.contract.result import TRIALS, Tuned
from mlops.pipeline.tracking_server import (
    EMBEDDED,
    STORE,
    VARIABLE,
    display_uri,
    experiment_name,
    has_registry,
    is_named,
    mlflow_errors,
    require_usable,
    uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEARCH_TAG, BUNDLE_TAG, EVIDENCE_TAG = "mlops.search", "mlops.bundle", "mlops.evidence"
# The parameters that a bundle's run is shown with.
SETTINGS = ("project", "seed", "data", "split")


def has_store(root: Path) -> bool:
    """Whether there is a store: a server or registry is named, or something was tracked here."""
    return is_named() or has_registry() or (root / EMBEDDED / STORE).exists()


def create_store(root: Path) -> None:
    """Create the SQLite store, where no server is configured and there is none yet.

    It is renamed into place when it is complete: MLflow can't use half-created tables.
    """
    store = root / EMBEDDED
    if is_named() or (store / STORE).exists():
        return
    store.mkdir(exist_ok=True)
    with alone(store):
        if (store / STORE).exists():
            return
        from mlflow import MlflowClient

        with whole_file(store / STORE) as partial:
            MlflowClient(f"sqlite:///{partial.resolve()}").search_experiments(max_results=1)


def connect(model: str, root: Path) -> tuple[MlflowClient, str]:
    """A client, and the id of the model's experiment; UserError without a server."""
    name, connected = experiment_name(model, root), client(root)
    with mlflow_errors(root):
        return connected, _experiment(connected, name, root)


def client(root: Path) -> MlflowClient:
    """A client alone; nothing is written. Raises UserError like `connect`."""
    named = is_named()
    require_usable(root)
    import logging

    # A stage prints one line: no links to runs and no progress bars.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from mlflow import MlflowClient

    # Their errors are raised too, and printed there in one line instead of pages.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with mlflow_errors(root):
        create_store(root)
    mlflow.set_tracking_uri(uri(root))
    if not named:
        # MLflow names its store in the environment, where it would outlive this root.
        os.environ.pop(VARIABLE, None)
    with mlflow_errors(root):
        return MlflowClient()


def tolerant(track: Callable[[str, Path], Any], model: str, root: Path) -> None:
    """Track; a tracking server that fails is reported in one line and does not fail the stage."""
    try:
        track(model, root)
    except Exception as error:
        reason = without_credentials(one_line(error))
        print(f"not tracked, `mlops register` will: {reason}", file=sys.stderr)


def search(model: str, root: Path) -> str:
    """The id of the run of the search in `models/search`, written now when it is missing."""
    client, experiment = connect(model, root)
    digest = folder_digest(root / SEARCH)
    known = find(client, experiment, SEARCH_TAG, digest)
    if known:
        return known
    run = _start_run(client, experiment, "search")
    for number, outcome in enumerate(read_json(root / SEARCH / TRIALS)):
        _log_trial(client, experiment, run, number, outcome)
    tuned = Tuned.load(root / SEARCH)
    client.log_artifacts(run, str(root / SEARCH), "search")
    made_with = {"family": tuned.family, **tuned.hyperparameters}
    _log(client, run, made_with, {"loss": tuned.loss}, {SEARCH_TAG: digest})
    return run


def bundle(model: str, root: Path, settings: bool = True) -> str:
    """The id of the bundle's run, written now when missing; `settings` are the pipeline's own."""
    client, experiment = connect(model, root)
    folder = root / BUNDLE
    digest = bundles.digest(folder)
    known = find(client, experiment, BUNDLE_TAG, digest)
    if known:
        return known
    card = bundles.read_card(folder)
    searched = find(client, experiment, SEARCH_TAG, folder_digest(root / SEARCH))
    run = _start_run(client, experiment, f"bundle {digest[:12]}", parent=searched)
    settings_used = _settings(root) if settings else {}
    made_with = {"family": card.family, **card.hyperparameters, **settings_used}
    hashes = {f"mlops.{name}": value for name, value in card.hashes.items()}
    client.log_artifacts(run, str(folder), "bundle")
    _log(client, run, made_with, {}, {**hashes, BUNDLE_TAG: digest})
    return run


def evidence(model: str, root: Path) -> str:
    """The id of the bundle's run, with the metrics and the report in it."""
    client, experiment = connect(model, root)
    run = bundle(model, root)
    digest = folder_digest(root / EVIDENCE)
    if find(client, experiment, EVIDENCE_TAG, digest) == run:
        return run
    metrics = read_json(root / EVIDENCE / "metrics.json")
    values = {name: interval["value"] for name, interval in metrics["holdout"].items()}
    holdout = {f"holdout_{name}": value for name, value in values.items() if value is not None}
    client.log_artifacts(run, str(root / EVIDENCE), "evidence")
    _log(client, run, {}, holdout, {EVIDENCE_TAG: digest})
    return run


def find(client: MlflowClient, experiment: str, tag: str, value: str) -> str | None:
    """The finished run that carries a tag of that value, if this server has one."""
    wanted = f"tags.`{tag}` = '{value}' and attributes.status = 'FINISHED'"
    found = client.search_runs([experiment], wanted, max_results=1)
    return str(found[0].info.run_id) if found else None


def _experiment(client: MlflowClient, name: str, root: Path) -> str:
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is None:
        store = (root / EMBEDDED / "artifacts").resolve()
        place = None if is_named() else store.as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=place))
        except MlflowException:
            # Another run made it in between.
            known = client.get_experiment_by_name(name)
            if known is None:
                raise
    if known.lifecycle_stage == "deleted":
        number = known.experiment_id
        raise UserError(
            f"{VARIABLE}: {display_uri(root)}: experiment {name!r} is deleted; `mlflow experiments "
            f"restore --experiment-id {number}`, or another `model` in params.yaml"
        )
    return str(known.experiment_id)


def _start_run(client: MlflowClient, experiment: str, name: str, parent: str | None = None) -> str:
    tags = {"mlflow.parentRunId": parent} if parent else {}
    return str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)


def _log_trial(
    client: MlflowClient, experiment: str, parent: str, number: int, outcome: dict[str, Any]
) -> None:
    """Write one trial of a search as a child run of its own."""
    run = _start_run(client, experiment, f"trial {number} {outcome['family']}", parent)
    metrics = {"first_look": outcome["first_look"]}
    if not outcome["given_up"]:
        folds = {f"loss_fold_{n}": loss for n, loss in enumerate(outcome["fold_losses"])}
        metrics |= {"loss": outcome["loss"], **folds}
    made_with = {"family": outcome["family"], **outcome["hyperparameters"]}
    _log(client, run, made_with, metrics, {"given_up": str(outcome["given_up"])})


def _log(
    client: MlflowClient, run: str, params: dict[str, Any], metrics: dict[str, float],
    tags: dict[str, str],
) -> None:  # fmt: skip
    """Write all at once and end the run: one that is found by its digest is whole."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    client.log_batch(
        run,
        params=[Param(name, str(value)) for name, value in params.items()],
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    client.set_terminated(run)


def _settings(root: Path) -> dict[str, Any]:
    """The pipeline's own parameters that shape a bundle, under dotted names."""
    import pandas as pd

    content = documents.read(root / FILE, "the pipeline's parameters")
    (flat,) = pd.json_normalize({name: content[name] for name in SETTINGS}).to_dict("records")
    return {str(name): value for name, value in flat.items()}
