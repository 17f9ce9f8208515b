"""The verbs of the GitOps loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

import click

from mlops.cli.command import ROOT, environment_argument, verb


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
    click.option("--key", default="verdict", help="Which of its comments; verdict."),
)
def comment(file: Path, head: str | None, key: str) -> str:
    """Write a file as the pull request's one comment of a key, or update that comment."""
    from mlops.gitops import comment

    return comment.post(ROOT, file, head, key)


@verb(
    click.argument("commit"),
    click.argument("state", type=click.Choice(["success", "failure"])),
    click.option("--fork", metavar="OWNER:BRANCH", help="The pull request's, of a fork."),
)
def mark(commit: str, state: Literal["success", "failure"], fork: str | None) -> None:
    """Set the gate's status of COMMIT, for rules that require it before a merge."""
    from mlops.gitops import comment

    comment.mark(ROOT, commit, state, fork)


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

    monitored = partial(watch.outcome, params.load(Params, ROOT), ROOT)
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


@verb()
def status() -> Iterator[str]:
    """Show what each environment pins and runs, since when; the state of data and features."""
    from mlops.contract import params
    from mlops.gitops import status

    settings = params.load_all(ROOT)
    yield status.table(status.status(settings, ROOT))
    yield status.data(settings, ROOT)
    yield from status.features(ROOT)


@verb(environment_argument)
def history(environment: str) -> str:
    """Show what ENVIRONMENT has pinned since when, who approved it, and what was verified."""
    from mlops.forge.select import current_forge
    from mlops.gitops import status

    return status.table(status.history(ROOT, "HEAD", environment, current_forge()))


@verb()
def clean_room() -> str:
    """Set dvc.lock aside, so that main's job restores only what jobs of main's have made."""
    from mlops.gitops import release

    return release.clean_room(ROOT)


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

    return json.dumps(pins.moved(ROOT, since))


@verb(
    click.argument("since"),
    click.option("--known", is_flag=True, help="And only to what main has pinned before."),
)
def pins_only(since: str, known: bool) -> str:
    """Print `true` where nothing but pins has changed since the commit SINCE: no code, no model."""
    from mlops.forge import git
    from mlops.gitops import pins

    only = pins.only_known_pins_changed if known else pins.only_pins_changed
    return json.dumps(git.exists(ROOT, since) and only(ROOT, since))
