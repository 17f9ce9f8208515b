"""Say what KServe's own models would lose or change of the objects on the standard input (JSON).

Runs in the environment of infra/kubernetes/tests.lock. Objects are read by the models of KServe's
SDK, generated from its API, with those of Kubernetes for what is in a pod, and written again: a key
that they don't know, or a value of another type, is not what comes out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from kserve import models
from kubernetes import client


def main() -> None:
    """Print a line for each fault, which begins with the object's number, from 0."""
    # Kubernetes' client knows its own models alone.
    for name in dir(models):
        setattr(client.models, name, getattr(models, name))
    api = client.ApiClient()
    for number, sent in enumerate(json.load(sys.stdin)):
        kind = f"V1beta1{sent['kind']}"
        try:
            read = api.deserialize(SimpleNamespace(data=json.dumps(sent)), kind)
            for line in differences(sent, api.sanitize_for_serialization(read)):
                print(f"{number}: {kind}{line}")
        except ValueError as error:
            print(f"{number}: {kind}: {error}")


def differences(sent: Any, kept: Any, place: str = "") -> Iterator[str]:
    """A line for each value that is not kept as it was sent."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        for key in sent:
            yield from differences(sent[key], kept.get(key), f"{place}.{key}")
    elif isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        for number, pair in enumerate(zip(sent, kept, strict=True)):
            yield from differences(*pair, f"{place}.{number}")
    elif (type(sent), sent) != (type(kept), kept):
        yield f"{place}: found {sent!r}, KServe keeps {kept!r}"


if __name__ == "__main__":
    main()
