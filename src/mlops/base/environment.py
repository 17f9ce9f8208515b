"""Variables of the process's environment, and the addresses in them."""

from __future__ import annotations

import re
from collections.abc import Mapping


def given(environment: Mapping[str, str], variable: str) -> str:
    """A variable's value; empty also where Azure Pipelines left `$(name)` for want of one."""
    value = environment.get(variable, "").strip()
    return "" if value.startswith("$(") else value


def without_credentials(text: str) -> str:
    """A text in which no URL has a user or a password, for messages and for other programs."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)
