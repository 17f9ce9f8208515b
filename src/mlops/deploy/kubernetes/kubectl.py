"""`kubectl`, with whatever cluster and rights its own configuration gives it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops.base.errors import UserError

PROGRAM = "kubectl"
# The owner of the fields that are applied, as the cluster records it.
MANAGER = "mlops"
SECONDS = 600
MOST_REASON = 300
# What may have passed when it is tried again, and the seconds before each new try.
TRANSIENT = re.compile(
    r"connection refused|connection reset|i/o timeout|TLS handshake timeout|unexpected EOF|"
    r"etcdserver|Too Many Requests|ServiceUnavailable|InternalError|Timeout\)|no such host|"
    r"Unable to connect",
)
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0)


@dataclass(frozen=True)
class Cluster:
    """One namespace of the cluster that kubectl is configured for."""

    namespace: str
    waits: Sequence[float] = WAITS

    def apply(self, documents: Sequence[Mapping[str, Any]], doing: str) -> None:
        """Make objects what the documents say, server-side: fields of other owners stay."""
        text = yaml.safe_dump_all(documents, sort_keys=False)
        self.run(
            ["apply", "--server-side", "--force-conflicts", f"--field-manager={MANAGER}",
             "-f", "-"], doing, text,
        )  # fmt: skip

    def find(self, kind: str, name: str) -> Any | None:
        """One object, None when there is none."""
        output = self.run(["get", kind, name, "--ignore-not-found", "-o", "json"],
                          f"read {kind} {name}")  # fmt: skip
        return json.loads(output) if output.strip() else None

    def every(self, kind: str, labels: str) -> list[Any]:
        """The objects with these labels."""
        output = self.run(["get", kind, "-l", labels, "-o", "json"],
                          f"list the {kind}s of {labels}")  # fmt: skip
        return list(json.loads(output)["items"])

    def delete(self, kinds: Sequence[str], labels: str) -> None:
        """Have no object of these kinds with these labels."""
        self.run(["delete", ",".join(kinds), "-l", labels, "--ignore-not-found"],
                 f"remove what is {labels}")  # fmt: skip

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
        command = ["--namespace", self.namespace, *arguments]
        for wait in (*self.waits, None):
            done = _call(command, text)
            if done.returncode == 0:
                return done.stdout
            reason = _last_line(done.stderr)
            if not TRANSIENT.search(done.stderr):
                raise UserError(_explain(doing, reason))
            if wait is not None:
                time.sleep(wait)
        raise UserError(
            f"Kubernetes: could not {doing}: {reason}; run it again, nothing is done twice"
        )


def rendered(folder: Path, shown: Path) -> list[dict[str, Any]]:
    """A folder's objects, put together by kustomize; `shown` is its name in errors."""
    if not (folder / "kustomization.yaml").exists():
        raise UserError(f"{shown}: not found; an overlay for each environment")
    done = _call(["kustomize", str(folder)], None)
    if done.returncode:
        raise UserError(f"{shown}: {_last_line(done.stderr)}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def _call(arguments: Sequence[str], text: str | None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [PROGRAM, *arguments], input=text, capture_output=True, text=True, timeout=SECONDS,
            check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise UserError(
            f"{PROGRAM}: not on the PATH; install it, and point it at a cluster"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{PROGRAM} {arguments[2]}: no end after {SECONDS} s") from None


def _last_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip() and "Warning" not in line]
    text = " ".join((lines or ["no output"])[-1].split())
    return re.sub(r"^(error: )?(Error from server )?", "", text)[:MOST_REASON]


def _explain(doing: str, reason: str) -> str:
    line = f"Kubernetes: could not {doing}: {reason}"
    if "quota" in reason:
        return f"{line}; ask for more, or request less"
    if "forbidden" in reason.lower():
        return f"Kubernetes: may not {doing}: {reason}"
    if "Unauthorized" in reason or "must be logged in" in reason:
        return f"{line}; kubectl's credentials are not accepted"
    if "no matches for kind" in reason or "doesn't have a resource type" in reason:
        return f"{line}; is the Gateway API installed?"
    return line
