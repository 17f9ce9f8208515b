"""As much of kustomize as infra/kubernetes uses, for where there is no kubectl.

Raises for whatever else a kustomization asks for, and for a file that it names and that is not
there. A test compares it with the real one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KNOWN = {"apiVersion", "kind", "resources", "configMapGenerator", "namespace", "patches"}


def render(folder: Path) -> list[dict[str, Any]]:
    """A kustomization's objects."""
    said = _loaded(folder / "kustomization.yaml")[0]
    if set(said) - KNOWN:
        raise ValueError(f"{folder}: {set(said) - KNOWN}")
    found: list[dict[str, Any]] = []
    for name in said.get("resources", []):
        place = folder / name
        found += render(place) if place.is_dir() else _loaded(place)
    found += [_config_map(folder, told) for told in said.get("configMapGenerator", [])]
    for patch in said.get("patches", []):
        _patch(found, _loaded(folder / patch["path"])[0])
    for document in found:
        if "namespace" in said:
            document["metadata"]["namespace"] = said["namespace"]
    return found


def _loaded(place: Path) -> list[Any]:
    return list(yaml.load_all(place.read_text(), yaml.CSafeLoader))


def _config_map(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    assert told["options"]["disableNameSuffixHash"]
    return {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": told["name"], "labels": dict(told["options"]["labels"])},
        "data": {name: (folder / name).read_text() for name in told["files"]},
    }  # fmt: skip


def _patch(found: list[dict[str, Any]], patch: dict[str, Any]) -> None:
    named = (patch["kind"], patch["metadata"]["name"])
    (target,) = [one for one in found if (one["kind"], one["metadata"]["name"]) == named]
    _merge(target, patch)


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        known = target.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            _merge(known, value)
        elif isinstance(value, list) and isinstance(known, list) and "name" in value[0]:
            for item in value:
                (one,) = [one for one in known if one["name"] == item["name"]]
                _merge(one, item)
        else:
            target[key] = value
