"""The size of `model.onnx`, which every start of a service has to load."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.gitops.comparison import Case
from mlops.gitops.verdict import Rule, most_rule


def judge(case: Case) -> Iterator[Rule]:
    """The size in MB against `gate.size_mb`."""
    yield most_rule("model.onnx", case.candidate.size / 1e6, case.params.gate.size_mb, "MB")
