"""`mlops`: one verb per command, no logic."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any, Literal

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
ACTIONS = {
    "mlops.registry.publish": "Push what was trained to DVC's default remote.",
    "mlops.gitops.sbom": "Write the bills of materials of bundle and image, in CycloneDX.",
    "mlops.gitops.check": "Check this project's files and declarations, and train on a few rows.",
}
Lines = Iterable[str] | str | None

environment_argument = click.argument("environment")
arguments_argument = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
# The service and the scoring read their own options.
own_options = {"add_help_option": False, "context_settings": {"ignore_unknown_options": True}}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mlops", message="%(package)s %(version)s")
def main() -> None:
    """From tables to a registered model, one verb at a time; `make train` runs them all."""


def verb(*parameters: Any, **settings: Any) -> Callable[[Callable[..., Lines]], Any]:
    """Make a function a command that prints the lines it returns, and ends with its exit code."""

    def decorate(function: Callable[..., Lines]) -> Any:
        @wraps(function)
        def command(**arguments: Any) -> None:
            from mlops.pipeline import dependencies, stage

            def act() -> None:
                dependencies.require_own_code(ROOT)
                lines = function(**arguments)
                for line in [lines] if isinstance(lines, str) else lines or ():
                    click.echo(line)

            sys.exit(stage.guarded(act))

        for parameter in reversed(parameters):
            parameter(command)
        return main.command(**settings)(command)

    return decorate


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


@verb(
    click.option(
        "--base", metavar="REF", help="The commit whose pin is the champion; the main branch."
    )
)
def gate(base: str | None) -> str:
    """Judge the bundle against the champion that Git pins; exit 1 when it is refused."""
    from mlops.contract import params
    from mlops.forge import git
    from mlops.gitops import gate

    return gate.run(params.load_all(ROOT), ROOT, base or git.base(ROOT)).line


@verb()
def report() -> str:
    """Write the pull request's comment from the gate's verdict."""
    from mlops.gitops import report

    return str(report.run(ROOT))


@verb(
    click.argument("file", type=click.Path(path_type=Path)),
    click.option(
        "--head", metavar="OWNER:BRANCH", help="The pull request's branch; this CI run's."
    ),
)
def comment(file: Path, head: str | None) -> str:
    """Write a file as the pull request's one comment, or update that comment."""
    from mlops.gitops import comment

    return comment.post(file, head)


@verb(click.argument("commit"), click.argument("state", type=click.Choice(["success", "failure"])))
def mark(commit: str, state: Literal["success", "failure"]) -> None:
    """Set the gate's status of COMMIT, for rules that require it before a merge."""
    from mlops.gitops import comment

    comment.mark(commit, state)


@verb(click.option("--bundle", type=click.Path(path_type=Path), default="models/bundle"))
def sign(bundle: Path) -> str:
    """Sign a bundle as `release.sign` says; its signature is proposed with the release."""
    from mlops.contract import params
    from mlops.gitops import signing

    return signing.sign(params.load_all(ROOT), ROOT, bundle)


@verb(
    environment_argument,
    click.option(
        "--prepare", is_flag=True, help="Only write verdict/proposal.json; propose nothing."
    ),
    click.option(
        "--prepared", metavar="FOLDER", type=click.Path(path_type=Path),
        help="Verify and propose what --prepare left in a copy of the workspace.",
    ),
)  # fmt: skip
def release(environment: str, prepare: bool, prepared: Path | None) -> str:
    """Propose the accepted bundle for ENVIRONMENT, as a pull request."""
    from mlops.base.errors import UserError
    from mlops.forge.select import current_forge
    from mlops.gitops import release

    if prepare and prepared:
        raise UserError("found --prepare and --prepared, expected one; they are two steps")
    if prepare:
        return release.prepare(ROOT, environment)
    if prepared:
        return release.propose_prepared(ROOT, environment, prepared, current_forge())
    return release.release(ROOT, environment, current_forge())


@verb(
    click.argument("source"),
    click.argument("target"),
    click.option("--ripe", is_flag=True, help="Only when it is ripe; exit 0 when it is not."),
    click.option("--now", is_flag=True, help="Although it is not ripe; needs --because."),
    click.option("--because", metavar="TEXT", default="", help="The reason, for the reviewer."),
)
def promote(source: str, target: str, ripe: bool, now: bool, because: str) -> str:
    """Propose for TARGET what SOURCE runs, as a pull request; exit 1 when it is not ripe."""
    from mlops.base.errors import UserError
    from mlops.contract import params
    from mlops.forge.select import current_forge
    from mlops.gitops import promotion
    from mlops.monitoring import watch
    from mlops.monitoring.params import Params

    if now != bool(because.strip()) or (now and ripe):
        raise UserError("--now and --because TEXT: expected both or none, and not with --ripe")

    def monitored(environment: str) -> tuple[str, str]:
        return watch.outcome(params.load(Params, ROOT), ROOT, environment)

    return promotion.promote(ROOT, source, target, current_forge(), monitored, because, ripe)


@verb(
    environment_argument,
    click.option("--to", metavar="REV", help="The commit whose pin to restore; the one before."),
)
def rollback(environment: str, to: str | None) -> str:
    """Propose for ENVIRONMENT what it pinned before, as a pull request."""
    from mlops.forge.select import current_forge
    from mlops.gitops import promotion

    return promotion.rollback(ROOT, environment, to, current_forge())


@verb(environment_argument)
def monitor(environment: str) -> str:
    """Compare ENVIRONMENT's requests with its bundle's training: ok, watch or retrain."""
    from mlops.contract import params
    from mlops.monitoring import watch
    from mlops.monitoring.params import Params

    return watch.run(params.load(Params, ROOT), ROOT, environment).line


@verb(
    click.option(
        "--until", metavar="DAY", type=click.DateTime(["%Y-%m-%d"]), help="The newest day."
    ),
    click.option(
        "--because", metavar="TEXT", default="asked for", help="The reason, for the reviewer."
    ),
)
def retrain(until: datetime | None, because: str) -> str:
    """Train on newer data and, when the gate accepts it, propose it as a pull request."""
    from mlops.forge.select import current_forge
    from mlops.gitops import retrain
    from mlops.pipeline import servers

    servers.use(ROOT)
    return retrain.run(ROOT, until.date() if until else None, because, current_forge())


@verb(
    environment_argument,
    click.option(
        "--check", is_flag=True, help="Only print what differs; exit 1 when anything does."
    ),
)
def reconcile(environment: str, check: bool) -> Iterator[str]:
    """Deploy what the manifest of ENVIRONMENT pins, step by step, and move its alias."""
    from mlops.contract import params
    from mlops.gitops import reconcile

    return (reconcile.check if check else reconcile.run)(params.load_all(ROOT), ROOT, environment)


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


@verb()
def status() -> Iterator[str]:
    """Show for every environment what is pinned, what runs, and since when; the data's state."""
    from mlops.contract import params
    from mlops.gitops import status

    settings = params.load_all(ROOT)
    yield status.table(status.status(settings, ROOT))
    yield status.data(settings, ROOT)


@verb(environment_argument)
def history(environment: str) -> str:
    """Show what ENVIRONMENT has pinned since when, who approved it, and what was verified."""
    from mlops.forge.select import current_forge
    from mlops.gitops import status

    return status.table(status.history(ROOT, "HEAD", environment, current_forge()))


@verb(environment_argument, click.argument("since"))
def unreleased(environment: str, since: str) -> str:
    """Print `true` unless ENVIRONMENT pins the bundle of these very files.

    It is `true` as well when anything but pins has changed since the commit SINCE.
    """
    from mlops.gitops import release

    return json.dumps(release.unreleased(ROOT, environment, since))


@verb(click.argument("since"))
def changed(since: str) -> str:
    """Print, as JSON, the environments whose manifest changed since the commit SINCE."""
    from mlops.gitops import pins

    return json.dumps(pins.changed(ROOT, since))


@verb(click.argument("since"))
def pins_only(since: str) -> str:
    """Print `true` where nothing but pins has changed since the commit SINCE: no code, no model."""
    from mlops.forge import git
    from mlops.gitops import pins

    return json.dumps(git.exists(ROOT, since) and pins.only_pins_changed(ROOT, since))
