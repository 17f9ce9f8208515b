"""Azure ML's SDK in a process of its own, for it conflicts with this project's lock.

`driver.py` runs as long as this process: importing the SDK takes seconds. Its Python is the one
that MLOPS_AZUREML_PYTHON names, or one that uv makes in `.run/azureml` from
`infra/azureml/requirements.lock`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlops.base import uv
from mlops.base.environment import given
from mlops.base.errors import UserError

# The same variables that Azure ML's MLflow plug-in and its own jobs know.
VARIABLES = ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME")
PYTHON = "MLOPS_AZUREML_PYTHON"
FOLDER = Path("infra/azureml")
LOCK = FOLDER / "requirements.lock"
DRIVER = Path(__file__).with_name("driver.py")
MOST_REASON = 300
# The role that is needed, by what is asked for.
ROLES = {"metrics": "Monitoring Reader", "models": "Storage Blob Data Contributor"}
ROLE = "AzureML Data Scientist"


class Workspace:
    """One workspace, through a driver that is started at the first call, and again if it ended."""

    def __init__(self, root: Path, names: tuple[str, ...]) -> None:
        self._root, self._names = root, names
        self.process: subprocess.Popen[str] | None = None

    def call(self, doing: str, operation: str, **arguments: Any) -> Any:
        """The result of one of the driver's operations; UserError says why `doing` failed."""
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
        assert self.process.stdin
        assert self.process.stdout
        try:
            request = {"operation": operation, **arguments}
            print(json.dumps(request), file=self.process.stdin, flush=True)
            answer = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            raise UserError(f"Azure ML: could not {doing}: {self._ended(self.process)}") from None
        except BaseException:
            # The answer that is still to come must not be taken for the next one's.
            self.process.kill()
            raise
        if "error" in answer:
            reason = answer["error"][:MOST_REASON]
            role = ROLES.get(operation) or ROLES.get(arguments.get("kind", ""), ROLE)
            raise UserError(_explain(doing, answer["status"], reason, role))
        return answer["result"]

    def _start(self) -> subprocess.Popen[str]:
        python = given(os.environ, PYTHON)
        if not python:
            programs = uv.environment(self._root / ".run/azureml", self._root / LOCK)
            python = str(programs / "python")
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
        try:
            # -I: a PYTHONPATH for this Python must not lead that one to this project's packages.
            return subprocess.Popen(
                [python, "-I", str(DRIVER), *self._names], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"{PYTHON}: {python}: {error.strerror}") from None

    def _ended(self, process: subprocess.Popen[str]) -> str:
        process.kill()
        line = f"exit code {process.wait()}"
        self._stderr.seek(0)
        lines = [line, *filter(str.strip, self._stderr.read().splitlines())]
        return f"its SDK ended: {lines[-1][:MOST_REASON]}"


def connect(root: Path) -> Workspace:
    """The workspace that this process's environment names; UserError when it names none."""
    names = tuple(given(os.environ, variable) for variable in VARIABLES)
    for variable, name in zip(VARIABLES, names, strict=True):
        if not re.fullmatch(r"[\w.()-]+", name):
            raise UserError(f"{variable}: found {name!r}, expected where the Azure ML workspace is")
    return _workspace(root, names)


_workspace = lru_cache(maxsize=8)(Workspace)


def _explain(doing: str, status: int, reason: str, role: str) -> str:
    """The line for what Azure refused; the status is 0 for what failed without an answer."""
    advice = ""
    if status == 401:
        advice = "; sign in with `az login`, or set AZURE_CLIENT_ID and what goes with it"
    elif status == 403:
        advice = f"; whoever runs this needs the role {role!r}"
    elif "quota" in reason.lower():
        file = FOLDER / "deployment.yaml"
        advice = f"; ask for more under Quotas, or take another instance_type in {file}"
    return f"Azure ML: could not {doing}: {reason}{advice}"
