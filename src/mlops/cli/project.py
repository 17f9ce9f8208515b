"""The verbs of a project: its stages, its servers, its service."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlops.cli.command import ROOT, Lines, arguments_argument, own_options, verb

STAGES = {
    "ingest": "Read the raw tables, check them, keep them as Parquet.",
    "featurize": "Make the feature table and set the holdout apart.",
    "tune": "Search model families and hyperparameters.",
    "train": "Refit the winner, export it to ONNX, write the bundle.",
    "evaluate": "Score the bundle on the holdout, write the evidence.",
    "register": "Make the bundle a model version in MLflow.",
}
ACTIONS = {
    "mlops.registry.publish": "Push what was trained to DVC's default remote.",
    "mlops.gitops.sbom": "Write the bills of materials of bundle and image, in CycloneDX.",
    "mlops.gitops.check": "Check this project's files and declarations, and train on a few rows.",
}


def run_stage(name: str) -> None:
    """Replace this process by the stage, which reads its own sections of the parameters alone."""
    from mlops.contract import params
    from mlops.contract.stages import MODULES

    # Here the whole file is checked.
    params.load_all(ROOT)
    command = [sys.executable, "-m", MODULES[name]]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": "src"})


def run_action(module: str) -> Lines:
    """Run what needs nothing but the folder."""
    lines: Lines = importlib.import_module(module).run(ROOT)
    return lines


for _name, _text in STAGES.items():
    verb(name=_name, help=_text)(partial(run_stage, _name))
for _module, _text in ACTIONS.items():
    verb(name=_module.rpartition(".")[2], help=_text)(partial(run_action, _module))


@verb()
def up() -> Iterator[str]:
    """Start the MLflow and Prefect servers on this machine's data."""
    from mlops.pipeline import servers

    urls = servers.up(ROOT)
    yield from (f"{name:<8} {url}" for name, url in urls.items())
    server = f"PREFECT_API_URL={urls['prefect']}/api"
    yield f"to run a deployment: {server} .venv/bin/prefect deployment run FLOW/NAME"


@verb()
def down() -> Iterator[str]:
    """Stop the servers that `up` started."""
    from mlops.pipeline import servers

    yield f"stopped: {', '.join(servers.down(ROOT)) or 'nothing ran'}"
    yield from (f"still runs: {command}" for command in servers.left(ROOT))


def _day(name: str, which: str, **settings: Any) -> Any:
    kind = click.DateTime(["%Y-%m-%d"])
    return click.option(f"--{name}", f"{name}_", type=kind, metavar="DAY", help=which, **settings)


_days = (
    _day("from", "The first day; the one after the last day whose outcomes are known."),
    _day("to", "The last day; the source's last."),
)
_environment = click.option("--environment", default="production", show_default=True)


@verb(_environment, *_days)
def predict(environment: str, from_: datetime | None, to_: datetime | None) -> str:
    """Score the coming rows of the source with the bundle that an environment pins."""
    from mlops.contract import params
    from mlops.deploy import predict

    settings, days = params.load_all(ROOT), [day and day.date() for day in (from_, to_)]
    rows = partial(predict.rows, settings, ROOT, *days)
    return predict.predict(settings, ROOT, environment, rows).line


@verb(
    _environment,
    _day("from", "The first day.", required=True),
    _day("to", "The last day, whose outcomes are known.", required=True),
    click.option("--every", metavar="N", type=click.IntRange(min=1), default=1, show_default=True,
                 help="Predict every N days, for all days until the next time."),
    click.option("--current", is_flag=True, help="With what is pinned now, not what was then."),
)  # fmt: skip
def backtest(environment: str, from_: datetime, to_: datetime, every: int, current: bool) -> str:
    """Predict past days as of each, with what was pinned then, and compare with their outcomes."""
    from mlops.contract import params
    from mlops.gitops import backtest
    from mlops.gitops.backtest.content import Scope

    scope = Scope(environment, from_.date(), to_.date(), every, current)
    return backtest.run(params.load_all(ROOT), ROOT, scope)


@verb(
    _environment,
    click.option("--to", metavar="KIND:LOCATION", help="The store; the one of the manifest."),
)
def features(environment: str, to: str | None) -> str:
    """Publish the features of the coming rows, so that a service can be asked by key."""
    from mlops.base.errors import UserError
    from mlops.contract import params
    from mlops.deploy import manifest, predict
    from mlops.serving import stores

    serving = manifest.load(ROOT, environment).serving
    kind, _, location = (to or f"{serving.store}:{serving.place(environment, ROOT)}").partition(":")
    if not location:
        raise UserError(f"--to: found {to!r}, expected KIND:LOCATION")
    # A name that is wrong is said before the source is read.
    stores.store(kind, "--to" if to else f"{manifest.path(environment)}: serving.store")
    card = predict.card(ROOT, environment)
    return predict.publish(predict.rows(params.load_all(ROOT), ROOT), kind, location, card)


@verb(
    click.argument("keys", nargs=-1, required=True),
    click.option("--bundle", type=click.Path(path_type=Path), default=Path("models/bundle"),
                 show_default=True, help="The bundle's folder."),
    click.option("--most", metavar="N", type=click.IntRange(min=1), default=12, show_default=True,
                 help="Contributions to show of each row."),
)  # fmt: skip
def explain(keys: tuple[str, ...], bundle: Path, most: int) -> Iterator[str]:
    """Say what each feature adds to the scores of rows of the feature table, by their keys."""
    from mlops.contract import params, project
    from mlops.evaluation import explanation

    settings = params.load(params.Params, ROOT)
    rows = explanation.rows(ROOT, project.features(settings.project), keys)
    for key, found in zip(keys, explanation.explain(bundle, rows, settings.seed), strict=True):
        yield f"{key}:"
        yield from found.lines(most)


@verb(arguments_argument, **own_options)
def serve(arguments: tuple[str, ...]) -> None:
    """Serve a bundle's folder, or a registered model's, over HTTP."""
    from mlops.serving import server

    def fetched(uri: str) -> tuple[Path, str]:
        from mlops.registry import versions

        return versions.fetch(uri, ROOT)

    server.main(arguments, fetched)


@verb(arguments_argument, **own_options)
def score(arguments: tuple[str, ...]) -> None:
    """Score a whole table with a bundle."""
    from mlops.serving import batch

    batch.main(arguments)
