"""`mlops`: one verb per command, no logic."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

STAGES = {
    "ingest": "Read the raw tables, check them, keep them as Parquet.",
    "featurize": "Make the feature table and set the holdout apart.",
    "tune": "Search model families and hyperparameters.",
    "train": "Refit the winner, export it to ONNX, write the bundle.",
    "evaluate": "Score the bundle on the holdout, write the evidence.",
    "register": "Make the bundle a model version in MLflow.",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """From tables to a registered model, one verb at a time; `make train` runs them all."""


def _stage_command(name: str, text: str) -> click.Command:
    def run() -> None:
        from mlops.core import stage

        stage.main(name, importlib.import_module(f"mlops.stages.{name}").run)

    return click.Command(name, callback=run, help=text)


for _name, _text in STAGES.items():
    main.add_command(_stage_command(_name, _text))


@main.command()
def up() -> None:
    """Start the MLflow and Prefect servers on this machine's data."""
    from mlops.core import servers, stage

    def start() -> None:
        for name, url in servers.up(Path()).items():
            click.echo(f"{name:<8} {url}")

    sys.exit(stage.guarded(start))


@main.command()
def down() -> None:
    """Stop the servers that `up` started."""
    from mlops.core import servers, stage

    def stop() -> None:
        stopped = servers.down(Path())
        click.echo(f"stopped: {', '.join(stopped) or 'nothing ran'}")

    sys.exit(stage.guarded(stop))
