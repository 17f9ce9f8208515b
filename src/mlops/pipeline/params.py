"""The parameters of what runs the stages: `release:`."""

from __future__ import annotations

from typing import Literal

from mlops.contract import params
from mlops.contract.params import Section


class Release(Section):
    """Whose training main restores: its own jobs' alone, or that of pull requests too."""

    trust: Literal["main", "pull-requests"] = "main"


class Params(params.Params):
    """What tells which remotes stages are restored from."""

    release: Release = Release()
