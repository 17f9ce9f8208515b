"""`kubectl`, with whatever cluster and rights its own configuration gives it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops.base import processes
from mlops.base.errors import UserError, one_line
from mlops.base.processes import CommandFailed

# The owner of the fields that are applied, as the cluster records it.
MANAGER = "mlops"
SECONDS = 600
# What may have passed when it is tried again, and the seconds before each new try.
TRANSIENT = re.compile(
    r"connection refused|connection reset|i/o timeout|TLS handshake timeout|unexpected EOF|"
    r"etcdserver|Too Many Requests|ServiceUnavailable|InternalError|Timeout\)|no such host|"
    r"Unable to connect",
)
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0)
# How a line of its log begins, up to the error.
LOGGED = re.compile(r'E\d{4} .*? err="?')
# What a refusal contains, and the advice that follows it.
ADVICE = {
    "quota": "ask for more, or request less",
    "Unauthorized": "kubectl's credentials are not accepted",
    "must be logged in": "kubectl's credentials are not accepted",
    "no matches for kind": "is the Gateway API installed?",
    "doesn't have a resource type": "is the Gateway API installed?",
}


@dataclass(frozen=True)
class Cluster:
    """One namespace of the cluster that kubectl is configured for."""

    namespace: str
    waits: Sequence[float] = WAITS

    def apply(self, documents: Sequence[Mapping[str, Any]], doing: str) -> None:
        """Make objects what the documents say, server-side: fields of other owners stay."""
        options = ["--server-side", "--force-conflicts", f"--field-manager={MANAGER}", "-f", "-"]
        self.run(["apply", *options], doing, yaml.safe_dump_all(documents, sort_keys=False))

    def find(self, kind: str, name: str) -> Any | None:
        """One object, None when there is none."""
        options = ["--ignore-not-found", "-o", "json"]
        output = self.run(["get", kind, name, *options], f"read {kind} {name}")
        return json.loads(output) if output.strip() else None

    def every(self, kind: str, labels: str) -> list[Any]:
        """The objects with these labels."""
        options = ["-l", labels, "-o", "json"]
        return list(
            json.loads(self.run(["get", kind, *options], f"list the {kind}s of {labels}"))["items"]
        )

    def delete(self, kinds: Sequence[str], labels: str) -> None:
        """Have no object of these kinds with these labels."""
        options = ["-l", labels, "--ignore-not-found"]
        self.run(["delete", ",".join(kinds), *options], f"remove what is {labels}")

    def annotate(self, kind: str, name: str, key: str, value: str) -> None:
        """Write an annotation; an empty value takes it away."""
        change = f"{key}={value}" if value else f"{key}-"
        self.run(["annotate", kind, name, change, "--overwrite"], f"write a note on {kind} {name}")

    def request(self, path: str, doing: str, content: Any = None) -> str:
        """The response of a path below the namespace: to GET, or to POST with JSON."""
        url = f"/api/v1/namespaces/{self.namespace}/{path}"
        if content is None:
            return self.run(["get", "--raw", url], doing)
        return self.run(["create", "--raw", url, "-f", "-"], doing, json.dumps(content))

    def run(self, arguments: Sequence[str], doing: str, text: str | None = None) -> str:
        """The output of kubectl; UserError, in a line, for what the cluster refuses."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        for wait in (*self.waits, None):
            try:
                return processes.run(command, doing, input=text, timeout=SECONDS)
            except CommandFailed as failed:
                reason = _text(failed.stderr)
                if not TRANSIENT.search(failed.stderr):
                    raise UserError(_explain(doing, reason)) from None
            if wait is not None:
                time.sleep(wait)
        raise UserError(
            f"Kubernetes: could not {doing}: {reason}; run it again, nothing is done twice"
        )


def rendered(folder: Path, shown: Path) -> list[dict[str, Any]]:
    """A folder's objects, put together by kustomize; `shown` is its name in errors."""
    if not (folder / "kustomization.yaml").exists():
        raise UserError(f"{shown}: not found; an overlay for each environment")
    try:
        output = processes.run(["kubectl", "kustomize", str(folder)], timeout=SECONDS)
    except CommandFailed as failed:
        raise UserError(f"{shown}: {_text(failed.stderr)}") from None
    return [document for document in yaml.safe_load_all(output) if document]


def _text(stderr: str) -> str:
    """What kubectl says, without its warnings; its log only where it says nothing else."""
    lines = [line for line in stderr.splitlines() if line.strip() and "Warning" not in line]
    messages = [line for line in lines if not LOGGED.match(line)] or lines[-1:] or ["no output"]
    # An error of several lines is logged as `err=<`, its lines, ` >`.
    text = " ".join(messages).removesuffix(" >")
    return one_line(re.sub(rf"^({LOGGED.pattern}|error: )?(Error from server )?", "", text))


def _explain(doing: str, reason: str) -> str:
    advice = next((advice for sign, advice in ADVICE.items() if sign in reason), "")
    if "quota" not in reason and "forbidden" in reason.lower():
        return f"Kubernetes: may not {doing}: {reason}"
    return f"Kubernetes: could not {doing}: {reason}" + (f"; {advice}" if advice else "")
