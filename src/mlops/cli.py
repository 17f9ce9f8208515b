"""`mlops`: one verb per command, no logic."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

import click

ROOT = Path()
STAGES = {
    "ingest": "Read the raw tables, check them, keep them as Parquet.",
    "featurize": "Make the feature table and set the holdout apart.",
    "tune": "Search model families and hyperparameters.",
    "train": "Refit the winner, export it to ONNX, write the bundle.",
    "evaluate": "Score the bundle on the holdout, write the evidence.",
    "register": "Make the bundle a model version in MLflow.",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mlops", message="%(package)s %(version)s")
def main() -> None:
    """From tables to a registered model, one verb at a time; `make train` runs them all."""


def _stage_command(name: str, text: str) -> click.Command:
    def run() -> None:
        from mlops.contract import params
        from mlops.contract.stages import MODULES
        from mlops.pipeline import stage

        # The stage itself reads its own sections alone; here the whole file is checked.
        if code := stage.guarded(lambda: params.load_all(ROOT)):
            sys.exit(code)
        command = [sys.executable, "-m", MODULES[name]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": "src"})

    return click.Command(name, callback=run, help=text)


for _name, _text in STAGES.items():
    main.add_command(_stage_command(_name, _text))


def _end(command: Callable[[], None]) -> None:
    """Run a command and exit with its code; a user's error is one line."""
    from mlops.pipeline import stage

    sys.exit(stage.guarded(command))


def _print(command: Callable[[], object]) -> None:
    """Run a command, print what it returns, and exit with its code."""
    _end(lambda: click.echo(command()))


_environment = click.argument("environment")


@main.command()
def up() -> None:
    """Start the MLflow and Prefect servers on this machine's data."""
    from mlops.pipeline import servers

    def start() -> None:
        for name, url in servers.up(ROOT).items():
            click.echo(f"{name:<8} {url}")

    _end(start)


@main.command()
def down() -> None:
    """Stop the servers that `up` started."""
    from mlops.pipeline import servers

    def stop() -> None:
        stopped = servers.down(ROOT)
        click.echo(f"stopped: {', '.join(stopped) or 'nothing ran'}")

    _end(stop)


@main.command()
def publish() -> None:
    """Push what was trained to DVC's default remote."""
    from mlops.registry import publish

    _print(lambda: publish.run(ROOT))


_base = click.option(
    "--base", metavar="REF", help="The commit whose pin is the champion; the main branch."
)


@main.command()
@_base
def gate(base: str | None) -> None:
    """Judge the bundle against the champion that Git pins; exit 1 when it is refused."""
    from mlops.contract import params
    from mlops.forge import git
    from mlops.gitops import gate

    _print(lambda: gate.run(params.load_all(ROOT), ROOT, base or git.base(ROOT)).line)


@main.command()
def report() -> None:
    """Write the pull request's comment from the gate's verdict."""
    from mlops.gitops import report

    _print(lambda: report.run(ROOT))


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--head", metavar="OWNER:BRANCH", help="The pull request's branch; this CI run's.")
@click.option("--commit", metavar="SHA", help="Also mark this commit as judged.")
@click.option("--state", type=click.Choice(["success", "failure"]), default="failure")
def comment(
    file: Path, head: str | None, commit: str | None, state: Literal["success", "failure"]
) -> None:
    """Write a file as the pull request's one comment, or update that comment."""
    from mlops.gitops import report

    def act() -> None:
        click.echo(report.post(file, head))
        if commit:
            report.mark(commit, state)

    _end(act)


@main.command()
@_environment
def release(environment: str) -> None:
    """Propose the accepted bundle for ENVIRONMENT, as a pull request."""
    from mlops.forge.select import current_forge
    from mlops.gitops import promotion

    _print(lambda: promotion.release(ROOT, environment, current_forge()))


@main.command()
@click.argument("source")
@click.argument("target")
def promote(source: str, target: str) -> None:
    """Propose for TARGET what SOURCE runs, as a pull request."""
    from mlops.forge.select import current_forge
    from mlops.gitops import promotion

    _print(lambda: promotion.promote(ROOT, source, target, current_forge()))


@main.command()
@_environment
@click.option("--to", metavar="REV", help="The commit whose pin to restore; the one before.")
def rollback(environment: str, to: str | None) -> None:
    """Propose for ENVIRONMENT what it pinned before, as a pull request."""
    from mlops.forge.select import current_forge
    from mlops.gitops import promotion

    _print(lambda: promotion.rollback(ROOT, environment, to, current_forge()))


@main.command()
@_environment
def monitor(environment: str) -> None:
    """Compare ENVIRONMENT's requests with its bundle's training: ok, watch or retrain."""
    from mlops.contract import params
    from mlops.monitoring import watch
    from mlops.monitoring.params import Params

    _print(lambda: watch.run(params.load(Params, ROOT), ROOT, environment).line)


@main.command()
@click.option("--until", metavar="DAY", type=click.DateTime(["%Y-%m-%d"]), help="The newest day.")
@click.option(
    "--because", metavar="TEXT", default="asked for", help="The reason, for the reviewer."
)
def retrain(until: datetime | None, because: str) -> None:
    """Train on newer data and, when the gate accepts it, propose it as a pull request."""
    from mlops.forge.select import current_forge
    from mlops.gitops import retrain
    from mlops.pipeline import servers

    def act() -> str:
        servers.use(ROOT)
        return retrain.run(ROOT, until.date() if until else None, because, current_forge())

    _print(act)


@main.command()
@_environment
@click.option("--check", is_flag=True, help="Only print what differs; exit 1 when anything does.")
def reconcile(environment: str, check: bool) -> None:
    """Deploy what the manifest of ENVIRONMENT pins, step by step, and move its alias."""
    from mlops.contract import params
    from mlops.gitops import reconcile

    def act() -> None:
        for line in (reconcile.check if check else reconcile.run)(
            params.load_all(ROOT), ROOT, environment
        ):
            click.echo(line)

    _end(act)


_own_options = {"ignore_unknown_options": True}
_arguments = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)


@main.command(add_help_option=False, context_settings=_own_options)
@_arguments
def serve(arguments: tuple[str, ...]) -> None:
    """Serve a bundle's folder, or a registered model's, over HTTP."""
    from mlops.serving import server

    def fetched(uri: str) -> tuple[Path, str]:
        from mlops.registry import aliases

        return aliases.fetch(uri, ROOT)

    _end(lambda: server.main(arguments, fetched))


@main.command(add_help_option=False, context_settings=_own_options)
@_arguments
def score(arguments: tuple[str, ...]) -> None:
    """Score a whole table with a bundle."""
    from mlops.serving import batch

    _end(lambda: batch.main(arguments))


@main.command()
def status() -> None:
    """Show for every environment what is pinned, what runs, and since when."""
    from mlops.contract import params
    from mlops.gitops import status

    _print(lambda: status.table(status.status(params.load_all(ROOT), ROOT)))


@main.command()
@_environment
def history(environment: str) -> None:
    """Show what ENVIRONMENT has pinned since when, from Git alone."""
    from mlops.gitops import status

    _print(lambda: status.table(status.history(ROOT, "HEAD", environment)))


@main.command()
def check() -> None:
    """Check that this project is whole: its files, declarations, tests, and a small training."""
    from mlops.gitops import check

    def act() -> None:
        for line in check.run(ROOT):
            click.echo(line)

    _end(act)


@main.command()
@_environment
@click.argument("since")
def unreleased(environment: str, since: str) -> None:
    """Print `true` unless ENVIRONMENT pins the bundle of these very files.

    It is `true` as well when anything but pins has changed since the commit SINCE.
    """
    from mlops.gitops import promotion

    _print(lambda: json.dumps(promotion.unreleased(ROOT, environment, since)))


@main.command()
@click.argument("since")
def changed(since: str) -> None:
    """Print, as JSON, the environments whose manifest changed since the commit SINCE."""
    from mlops.gitops import status

    _print(lambda: json.dumps(status.changed(ROOT, since)))
