"""A stand-in for kubectl, with a cluster in the folder that CLUSTER names.

It has what deployments of bundles need: server-side apply with fields that their manager owns,
labels, the proxy to services and pods, quotas. A Deployment's pod runs its init container (the
ConfigMap's script with the environment of the specification) and scores with what that fetched.
`faults.json` in the folder holds what goes wrong with the next calls. Kustomize is the real one's,
of the program that KUBECTL names.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(os.environ["CLUSTER"])
KINDS = ("Deployment", "Service", "ConfigMap", "ServiceAccount", "HTTPRoute", "NetworkPolicy",
         "Pod", "PodDisruptionBudget", "HorizontalPodAutoscaler")  # fmt: skip
BY_NAME = {kind.lower(): kind for kind in KINDS}


def main(arguments: list[str]) -> None:
    with (HERE / "log").open("a") as log:
        log.write(" ".join(arguments) + "\n")
    _fail(" ".join(arguments))
    if arguments[0] == "kustomize":
        os.execv(os.environ["KUBECTL"], ["kubectl", *arguments])
    assert arguments[0] == "--namespace"
    namespace, verb, *rest = arguments[1:]
    {
        "apply": apply, "get": get, "create": create, "delete": delete, "annotate": annotate,
        "rollout": rollout,
    }[verb](namespace, rest)  # fmt: skip


def apply(namespace: str, arguments: list[str]) -> None:
    assert arguments == ["--server-side", "--force-conflicts", "--field-manager=mlops", "-f", "-"]
    import yaml  # Imported here: most calls only read, and start sooner without.

    for document in yaml.load_all(sys.stdin.read(), yaml.CSafeLoader):
        kind, name = document["kind"], document["metadata"]["name"]
        if kind not in KINDS:
            die(f'error: no matches for kind "{kind}" in version "{document["apiVersion"]}"')
        if document["metadata"]["namespace"] != namespace:
            die(f"error: the namespace from the object does not match {namespace!r}")
        known = _load(namespace, kind, name)
        found = known["object"] if known else {}
        _drop(found, known["applied"] if known else {}, document)
        before = json.dumps(found.get("spec"), sort_keys=True)
        _take(found, document)
        _save(namespace, found, document)
        if kind == "Deployment" and json.dumps(found["spec"], sort_keys=True) != before:
            _start(namespace, found)


def get(namespace: str, arguments: list[str]) -> None:
    if arguments[0] == "--raw":
        print(_raw(arguments[1], None), end="")
        return
    kind, *rest = arguments
    if rest[0] == "-l":
        items = [one["object"] for one in _labelled(namespace, BY_NAME[kind], rest[1])]
        print(json.dumps({"kind": "List", "items": items}))
        return
    assert "--ignore-not-found" in rest
    known = _load(namespace, BY_NAME[kind], rest[0])
    if known:
        print(json.dumps(known["object"]))


def create(namespace: str, arguments: list[str]) -> None:
    raw, path, _, stdin = arguments
    assert (raw, stdin) == ("--raw", "-")
    print(_raw(path, json.load(sys.stdin)), end="")


def delete(namespace: str, arguments: list[str]) -> None:
    kinds, option, labels, ignore = arguments
    assert (option, ignore) == ("-l", "--ignore-not-found")
    for kind in (BY_NAME[name] for name in kinds.split(",")):
        for known in _labelled(namespace, kind, labels):
            name = known["object"]["metadata"]["name"]
            _place(namespace, kind, name).unlink()
            if kind == "Deployment":
                _place(namespace, "Pod", f"{name}-0").unlink(missing_ok=True)


def annotate(namespace: str, arguments: list[str]) -> None:
    kind, name, change, overwrite = arguments
    known = _load(namespace, BY_NAME[kind], name)
    assert overwrite == "--overwrite"
    annotations = known["object"]["metadata"].setdefault("annotations", {})
    if change.endswith("-") and "=" not in change:
        annotations.pop(change[:-1], None)
    else:
        key, _, value = change.partition("=")
        annotations[key] = value
    _save(namespace, known["object"], known["applied"])


def rollout(namespace: str, arguments: list[str]) -> None:
    assert arguments[0] == "status"
    name = arguments[1].removeprefix("deployment/")
    known = _load(namespace, "Deployment", name)
    if not known["object"]["status"]["availableReplicas"]:
        die("error: timed out waiting for the condition")


def die(line: str) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(1)


def _start(namespace: str, deployment: dict[str, Any]) -> None:
    """Run a deployment's one pod: its init container, and what became of it."""
    name, spec = deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]
    status: dict[str, Any] = {"availableReplicas": 0, "conditions": []}
    deployment["status"] = status
    quota = HERE / "quota"
    if quota.exists():
        status["conditions"] = [{"type": "ReplicaFailure", "message": quota.read_text()}]
        quota.unlink()
    else:
        container = spec["initContainers"][0]
        (mounted,) = [v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v]
        script = HERE / f"{name}.py"
        script.write_text(_load(namespace, "ConfigMap", mounted)["object"]["data"]["fetch.py"])
        variables = {one["name"]: one.get("value", "") for one in container["env"]}
        done = subprocess.run(
            [sys.executable, "-I", str(script), str(HERE / "volumes" / name)],
            env={**os.environ, **variables}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        status["availableReplicas"] = int(done.returncode == 0)
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        state = {"terminated": {"message": done.stderr.strip(), "reason": "Error"}}
        statuses = [{"name": "fetch", "state": state}] if done.returncode else []
        pod = {"kind": "Pod", "metadata": {"name": f"{name}-0", "labels": labels},
               "status": {"initContainerStatuses": statuses}}  # fmt: skip
        _save(namespace, pod, {})
    _save(namespace, deployment, _load(namespace, "Deployment", name)["applied"])


def _raw(path: str, content: Any) -> str:
    found = re.fullmatch(
        r"/api/v1/namespaces/([^/]+)/(services|pods)/([^/:]+):8080/proxy/(.+)", path
    )
    assert found, path
    namespace, kind, name, page = found.groups()
    if not _load(namespace, "Service" if kind == "services" else "Pod", name):
        die(f'Error from server (NotFound): {kind} "{name}" not found')
    if page == "metrics":
        place = HERE / f"{name}.metrics"
        return place.read_text() if place.exists() else ""
    known = _load(namespace, "Deployment", name)
    if not known or not known["object"]["status"]["availableReplicas"]:
        die(f'Error from server (ServiceUnavailable): no endpoints available for service "{name}"')
    folder = HERE / "volumes" / name
    if page == "model":
        from mlops.base.files import folder_digest

        return json.dumps({"digest": folder_digest(folder), "outputs": ["probability"]})
    assert page == "invocations"
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    rows = content["dataframe_records"]
    names = [one.name for one in session.get_inputs()]
    feeds = {one: np.array([row[one] for row in rows], np.float32) for one in names}
    scores = session.run(None, feeds)[0].tolist()
    return json.dumps({"predictions": [{"probability": value} for value in scores]})


def _drop(found: dict[str, Any], applied: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Take away what this manager applied before, and does not any more."""
    for key, value in applied.items():
        if key not in wanted:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(wanted[key], dict):
            _drop(found[key], value, wanted[key])


def _take(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(found.get(key), dict):
            _take(found[key], value)
        else:
            found[key] = json.loads(json.dumps(value))


def _labelled(namespace: str, kind: str, labels: str) -> list[dict[str, Any]]:
    key, _, value = labels.partition("=")
    found = [json.loads(file.read_text())
             for file in sorted((HERE / namespace / kind).glob("*.json"))]  # fmt: skip
    return [one for one in found if one["object"]["metadata"].get("labels", {}).get(key) == value]


def _place(namespace: str, kind: str, name: str) -> Path:
    return HERE / namespace / kind / f"{name}.json"


def _load(namespace: str, kind: str, name: str) -> Any:
    place = _place(namespace, kind, name)
    return json.loads(place.read_text()) if place.exists() else None


def _save(namespace: str, document: dict[str, Any], applied: dict[str, Any]) -> None:
    place = _place(namespace, document["kind"], document["metadata"]["name"])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"object": document, "applied": applied}))


def _fail(call: str) -> None:
    place = HERE / "faults.json"
    faults = json.loads(place.read_text()) if place.exists() else []
    for fault in faults:
        if fault["times"] and re.search(fault["match"], call):
            fault["times"] -= 1
            place.write_text(json.dumps(faults))
            die(fault["line"])


if __name__ == "__main__":
    main(sys.argv[1:])
