"""A cluster as kubectl sees it: objects in memory, in one namespace.

It has what deployments of bundles need: server-side apply, where fields of others stay, labels, the
proxy to services and pods, quotas. A Deployment's pod runs its init container (the ConfigMap's
script with the environment of the specification) and scores with what that fetched.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import yaml

from mlops.base.processes import CommandFailed
from mlops.contract import bundle
from tests.mlops.deploy.cloud import Fault

OPTIONS = ["--server-side", "--force-conflicts", "--field-manager=mlops", "-f", "-"]


class Cluster:
    """`folder` has the pods' volumes; `run` is called with kubectl's arguments."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace, self.folder = namespace, folder
        self.reset()

    def reset(self) -> None:
        self.objects: dict[str, Any] = {}
        self.faults: list[Fault] = []
        # Why the next pod is not started, and what pods say of their requests.
        self.quota = ""
        self.metrics: dict[str, str] = {}

    def run(self, command: Sequence[str], _: str, input: str | None = None, **__: Any) -> str:
        kubectl, option, namespace, verb, *rest = command
        assert (kubectl, option, namespace) == ("kubectl", "--namespace", self.namespace)
        for fault in self.faults:
            if fault.times and verb == fault.match:
                fault.times -= 1
                fail(fault.content)
        return getattr(self, verb)(rest, input) or ""

    def apply(self, options: list[str], text: str) -> None:
        assert options == OPTIONS
        for document in yaml.load_all(text, yaml.CSafeLoader):
            assert document["metadata"]["namespace"] == self.namespace
            place = f"{document['kind'].lower()}/{document['metadata']['name']}"
            found = self.objects.setdefault(place, {})
            before = json.dumps(found.get("spec"))
            _merge(found, document)
            if document["kind"] == "Deployment" and json.dumps(found["spec"]) != before:
                self._start(document["metadata"]["name"], found)

    def get(self, arguments: list[str], _: None) -> str:
        if arguments[0] == "--raw":
            return self._proxied(arguments[1], None)
        kind, *rest = arguments
        if rest[0] == "-l":
            return json.dumps({"items": [self.objects[p] for p in self._labelled(kind, rest[1])]})
        assert "--ignore-not-found" in rest
        found = self.objects.get(f"{kind}/{rest[0]}")
        return json.dumps(found) if found else ""

    def create(self, arguments: list[str], text: str) -> str:
        assert arguments[0] == "--raw"
        return self._proxied(arguments[1], json.loads(text))

    def delete(self, arguments: list[str], _: None) -> None:
        kinds, option, labels, ignore = arguments
        assert (option, ignore) == ("-l", "--ignore-not-found")
        for kind in kinds.split(","):
            for place in self._labelled(kind, labels):
                del self.objects[place]
                if kind == "deployment":
                    self.objects.pop(f"pod/{place.partition('/')[2]}-0", None)

    def annotate(self, arguments: list[str], _: None) -> None:
        kind, name, change, overwrite = arguments
        assert overwrite == "--overwrite"
        annotations = self.objects[f"{kind}/{name}"]["metadata"].setdefault("annotations", {})
        key, is_set, value = change.partition("=")
        if is_set:
            annotations[key] = value
        else:
            annotations.pop(key.removesuffix("-"), None)

    def rollout(self, arguments: list[str], _: None) -> None:
        assert arguments[0] == "status"
        status = self.objects[arguments[1]]["status"]
        if status["availableReplicas"] < status["replicas"] or not status["updatedReplicas"]:
            fail("error: timed out waiting for the condition")

    def _start(self, name: str, deployment: dict[str, Any]) -> None:
        """Run a deployment's one pod: its init container, and what became of it."""
        template, quota, self.quota = deployment["spec"]["template"], self.quota, ""
        generation = deployment["metadata"].get("generation", 0) + 1
        deployment["metadata"]["generation"] = generation
        # The pod before goes only once another is ready.
        old = deployment.get("status", {}).get("availableReplicas", 0)
        status = {"observedGeneration": generation, "replicas": old, "availableReplicas": old}
        deployment["status"] = status
        if quota:
            conditions = [{"type": "ReplicaFailure", "status": "True", "message": quota}]
            status |= {"updatedReplicas": 0, "conditions": conditions}
            return
        spec = template["spec"]
        (mounted,) = [v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v]
        script = self.objects[f"configmap/{mounted}"]["data"]["fetch.py"]
        done = subprocess.run(
            [sys.executable, "-I", "-c", script, str(self.folder / name)],
            env={one["name"]: one.get("value", "") for one in spec["initContainers"][0]["env"]},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            status |= {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
        else:
            late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
            status |= {"replicas": old + 1, "updatedReplicas": 1, "conditions": [late]}
        state = {"terminated": {"message": done.stderr.strip(), "reason": "Error"}}
        statuses = [{"name": "fetch", "state": state}] if done.returncode else []
        self.objects[f"pod/{name}-0"] = {
            "metadata": {"name": f"{name}-0", "labels": template["metadata"]["labels"]},
            "status": {"initContainerStatuses": statuses},
        }

    def _proxied(self, path: str, content: Any) -> str:
        place = rf"/api/v1/namespaces/{self.namespace}/(service|pod)s/([^/:]+):8080/proxy/(.+)"
        kind, name, page = re.fullmatch(place, path).groups()
        if f"{kind}/{name}" not in self.objects:
            fail(f'Error from server (NotFound): {kind}s "{name}" not found')
        if page == "metrics":
            return self.metrics.get(name, "")
        if not self.objects[f"deployment/{name}"]["status"]["availableReplicas"]:
            fail(f'Error from server (ServiceUnavailable): no endpoints for service "{name}"')
        if page == "model":
            digest = bundle.digest(self.folder / name)
            return json.dumps({"digest": digest, "outputs": ["probability"]})
        assert page == "invocations"
        rows = pd.DataFrame(content["dataframe_records"])
        scores = bundle.Scorer(self.folder / name).predict(rows).tolist()
        return json.dumps({"predictions": [{"probability": score} for score in scores]})

    def _labelled(self, kind: str, labels: str) -> list[str]:
        key, _, value = labels.partition("=")
        return [place for place, one in self.objects.items() if place.startswith(f"{kind}/")
                and one["metadata"].get("labels", {}).get(key) == value]  # fmt: skip


def fail(line: str) -> NoReturn:
    raise CommandFailed(f"kubectl: {line}", 1, line)


def _merge(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(found.get(key), dict):
            _merge(found[key], value)
        else:
            found[key] = value
