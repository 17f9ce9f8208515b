"""Variables of the process's environment."""

from __future__ import annotations

from collections.abc import Mapping


def given(environment: Mapping[str, str], variable: str) -> str:
    """A variable's value; empty also where Azure Pipelines left `$(name)` for want of one."""
    value = environment.get(variable, "").strip()
    return "" if value.startswith("$(") else value
