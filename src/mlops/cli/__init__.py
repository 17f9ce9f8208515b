"""`mlops`: one verb per command, no logic."""

from mlops.cli import gitops, project
from mlops.cli.command import main

__all__ = ["gitops", "main", "project"]
