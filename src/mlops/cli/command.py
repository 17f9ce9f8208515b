"""`mlops`, the command, and how a function becomes one of its verbs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import click

ROOT = Path()
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
