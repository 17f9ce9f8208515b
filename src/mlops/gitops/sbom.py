"""Bills of materials in CycloneDX: of a bundle with its model card, and of the service's image.

They are made of the bundle, its evidence and the service's lock alone, so the same files give the
same bytes, at a release and years later.
"""

from __future__ import annotations

import re
import tomllib
import uuid
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from mlops.base.errors import UserError, one_line
from mlops.base.files import folder_digest, folder_digests, read_json, sha256, write_json
from mlops.contract.paths import BUNDLE, EVIDENCE, not_found
from mlops.gitops import verdict

LOCK = Path("infra/serving/requirements.lock")
FILES = verdict.FOLDER / "bundle.cdx.json", verdict.FOLDER / "image.cdx.json"


def run(root: Path) -> str:
    """Write both for the bundle in the workspace; the outcome in a line. Raises UserError."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        packages = _packages(root / LOCK)
        image = {"type": "container", "name": f"{project['name']}-serving"}
        documents = (
            _of_bundle(root, packages, project),
            _document(image, packages, project, sha256(root / LOCK)),
        )
    except FileNotFoundError as error:
        raise UserError(not_found(Path(error.filename))) from None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{root / BUNDLE}, {LOCK}: damaged: {one_line(error)}") from None
    (root / verdict.FOLDER).mkdir(exist_ok=True)
    for file, document in zip(FILES, documents, strict=True):
        write_json(root / file, document)
    return f"{', '.join(map(str, FILES))}: {len(packages)} packages"


def _of_bundle(root: Path, packages: list[Any], project: dict[str, Any]) -> dict[str, Any]:
    folder = root / BUNDLE
    card, digest = read_json(folder / "bundle.json"), folder_digest(folder)
    rows = {key: card["hashes"][key] for key in ("data", "holdout")}
    model = {
        "type": "machine-learning-model", "name": card["name"], "version": digest,
        "hashes": _hashes(digest), "components": _hashed("file", folder_digests(folder)),
        "modelCard": _model_card(card, read_json(root / EVIDENCE / "metrics.json")["holdout"]),
    }  # fmt: skip
    return _document(model, [*_hashed("data", rows), *packages], project, digest)


def _model_card(card: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    made_by = {"code": card["hashes"]["code"], "parameters": card["hashes"]["parameters"]}
    parameters = {
        "approach": {"type": "supervised"}, "task": card["task"],
        "architectureFamily": card["family"], "datasets": [{"ref": "data"}, {"ref": "holdout"}],
        "inputs": [{"format": f"{one['name']}: {one['type']}"} for one in card["inputs"]],
        "outputs": [{"format": f"{name}: float"} for name in card["outputs"]],
    }  # fmt: skip
    measured = [
        {"type": name, "slice": "holdout", "value": str(metric["value"])} | _interval(metric)
        for name, metric in metrics.items()
        if metric["value"] is not None
    ]
    properties = {**made_by, **card["hyperparameters"]}.items()
    return {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": measured},
        "properties": [{"name": name, "value": str(value)} for name, value in properties],
    }


def _interval(metric: dict[str, Any]) -> dict[str, Any]:
    ends = {"lowerBound": metric["low"], "upperBound": metric["high"]}
    given = {end: str(value) for end, value in ends.items() if value is not None}
    return {"confidenceInterval": given} if given else {}


def _document(
    component: dict[str, Any], parts: list[Any], project: dict[str, Any], identity: str
) -> dict[str, Any]:
    licence = project.get("license")
    licences = {"licenses": [{"expression": licence}]} if isinstance(licence, str) else {}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, identity)}",
        "version": 1,
        "metadata": {"component": {"bom-ref": "subject", **component, **licences}},
        "components": parts,
        "dependencies": [{"ref": "subject", "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _packages(lock: Path) -> list[Any]:
    """The packages of a lock that an image installs."""
    lines = [line.removesuffix("\\") for line in lock.read_text().splitlines()]
    pins = [Requirement(line) for line in lines if re.match(r"[A-Za-z0-9]", line)]
    if not pins:
        raise ValueError("no packages")
    installed = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    named = [(pin.name, str(pin.specifier).removeprefix("==")) for pin in installed]
    return [
        {"type": "library", "bom-ref": f"pkg:pypi/{name}@{version}", "name": name,
         "version": version, "purl": f"pkg:pypi/{name}@{version}"}
        for name, version in named
    ]  # fmt: skip


def _hashed(kind: str, digests: dict[str, str]) -> list[Any]:
    return [
        {"type": kind, "bom-ref": name, "name": name, "hashes": _hashes(digest)}
        for name, digest in digests.items()
    ]


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]
