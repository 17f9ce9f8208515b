"""Variables of the process's environment, and the addresses in them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def given(environment: Mapping[str, str], variable: str) -> str:
    """A variable's value; empty also where Azure Pipelines left `$(name)` for want of one."""
    value = environment.get(variable, "").strip()
    return "" if value.startswith("$(") else value


def on_hosted_runner(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a machine of the forge's own, which is gone when the job ends."""
    is_github = given(environment, "RUNNER_ENVIRONMENT") == "github-hosted"
    return is_github or given(environment, "AGENT_ISSELFHOSTED") == "0"


def reach_loopback() -> None:
    """Let this process, and those that it starts, reach this machine's servers without a proxy."""
    # Programs differ in which of the two they read.
    for variable in ("no_proxy", "NO_PROXY"):
        excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
        hosts = [host for host in excepted.split(",") if host.strip()]
        missing = [host for host in LOOPBACK if host not in hosts and "*" not in hosts]
        os.environ[variable] = ",".join([*hosts, *missing])


def without_credentials(text: str) -> str:
    """A text in which no URL has a user or a password, for messages and for other programs."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)
