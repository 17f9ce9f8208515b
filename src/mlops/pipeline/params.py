"""The parameters of what is released: `release:`."""

from __future__ import annotations

from typing import Literal

from mlops.contract import params
from mlops.contract.params import Section


class Release(Section):
    """How main releases.

    `trust` says whose training it restores: its own jobs' alone, or that of pull requests too;
    `sign` with what `mlops sign` signs the bundle.
    """

    trust: Literal["main", "pull-requests"] = "main"
    sign: Literal["none", "key", "keyless"] = "none"


class Params(params.Params):
    """What restoring stages and signing bundles reads."""

    release: Release = Release()
