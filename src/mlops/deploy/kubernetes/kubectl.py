"""`kubectl`, with whatever cluster and rights its own configuration gives it."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops.base import processes
from mlops.base.errors import LONGEST_REASON, UserError
from mlops.base.processes import CommandFailed

PROGRAM = "kubectl"
# Who owns the fields that are applied, in the cluster's own books.
MANAGER = "mlops"
SECONDS = 600
# Seconds to wait before each retry.
PAUSES = (0.5, 1, 2, 4, 8, 8, 8, 8)
# What another try may mend.
PASSING = re.compile(
    r"connection refused|connection reset|i/o timeout|TLS handshake timeout|unexpected EOF|"
    r"etcdserver|Too Many Requests|ServiceUnavailable|InternalError|Timeout\)|no such host|"
    r"Unable to connect",
)


@dataclass(frozen=True)
class Cluster:
    """One namespace of the cluster that kubectl is set up for."""

    namespace: str

    def apply(self, documents: Sequence[Mapping[str, Any]], doing: str) -> None:
        """Make objects what the documents say, server-side: what others own in them stays."""
        text = yaml.safe_dump_all(documents, sort_keys=False)
        self.run(
            ["apply", "--server-side", "--force-conflicts", f"--field-manager={MANAGER}",
             "-f", "-"], doing, text,
        )  # fmt: skip

    def find(self, kind: str, name: str) -> Any | None:
        """One object, None when there is none."""
        said = self.run(["get", kind, name, "--ignore-not-found", "-o", "json"],
                        f"read {kind} {name}")  # fmt: skip
        return json.loads(said) if said.strip() else None

    def every(self, kind: str, labels: str) -> list[Any]:
        """The objects with these labels."""
        said = self.run(["get", kind, "-l", labels, "-o", "json"], f"list the {kind}s of {labels}")
        found: list[Any] = json.loads(said)["items"]
        return found

    def delete(self, kinds: Sequence[str], labels: str) -> None:
        """Have no object with these labels."""
        self.run(["delete", ",".join(kinds), "-l", labels, "--ignore-not-found"],
                 f"remove what is {labels}")  # fmt: skip

    def annotate(self, kind: str, name: str, key: str, value: str) -> None:
        """Write an annotation; an empty value takes it away."""
        said = f"{key}={value}" if value else f"{key}-"
        self.run(["annotate", kind, name, said, "--overwrite"], f"write a note on {kind} {name}")

    def read(self, place: str, doing: str) -> str:
        """What a path below the namespace answers."""
        return self.run(["get", "--raw", f"/api/v1/namespaces/{self.namespace}/{place}"], doing)

    def send(self, place: str, content: Any, doing: str) -> str:
        """What a path below the namespace answers to JSON."""
        path = f"/api/v1/namespaces/{self.namespace}/{place}"
        return self.run(["create", "--raw", path, "-f", "-"], doing, json.dumps(content))

    def run(self, arguments: Sequence[str], doing: str, text: str | None = None) -> str:
        """What kubectl prints; raises UserError, in a line, for what the cluster refuses."""
        for pause in (*PAUSES, None):
            try:
                return _call(["--namespace", self.namespace, *arguments], text)
            except CommandFailed as error:
                reason = _line(error.stderr)
                if not PASSING.search(error.stderr):
                    raise UserError(_explain(doing, reason)) from None
            if pause is not None:
                time.sleep(pause)
        raise UserError(
            f"Kubernetes: could not {doing}: {reason}; run it again, nothing is done twice"
        )


def rendered(folder: Path, shown: Path) -> list[dict[str, Any]]:
    """A folder's objects, put together by kustomize; `shown` is what it is called in errors."""
    if not (folder / "kustomization.yaml").exists():
        raise UserError(f"{shown}: not found; an overlay for each environment")
    try:
        documents = _call(["kustomize", str(folder)])
    except CommandFailed as error:
        raise UserError(f"{shown}: {_line(error.stderr)}") from None
    return [document for document in yaml.safe_load_all(documents) if document]


def _call(arguments: Sequence[str], text: str | None = None) -> str:
    if not shutil.which(PROGRAM):
        raise UserError(f"{PROGRAM}: not on the PATH; install it, and point it at a cluster")
    return processes.run([PROGRAM, *arguments], input=text, timeout=SECONDS)


def _line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip() and "Warning" not in line]
    text = " ".join((lines or ["it says nothing"])[-1].split())
    return re.sub(r"^(error: )?(Error from server )?", "", text)[:LONGEST_REASON]


def _explain(doing: str, reason: str) -> str:
    if "quota" in reason:
        return f"Kubernetes: could not {doing}: {reason}; ask for more, or request less"
    if "Forbidden" in reason or "forbidden" in reason:
        return f"Kubernetes: may not {doing}: {reason}"
    if "Unauthorized" in reason or "must be logged in" in reason:
        return f"Kubernetes: could not {doing}: {reason}; kubectl's credentials are not accepted"
    if "no matches for kind" in reason or "doesn't have a resource type" in reason:
        return f"Kubernetes: could not {doing}: {reason}; is the Gateway API installed?"
    return f"Kubernetes: could not {doing}: {reason}"
