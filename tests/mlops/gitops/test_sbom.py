"""The bills of materials are valid CycloneDX, and name the very bytes, data and packages."""

import json
import re
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from mlops.base.errors import UserError
from mlops.base.files import folder_digest, read_json, sha256
from mlops.gitops import sbom
from tests.conftest import FIXTURES, REPOSITORY


@pytest.fixture(params=["trips", "wine", "diabetes"])
def root(request, tmp_path):
    for name in ("models", "reports"):
        shutil.copytree(FIXTURES / request.param / name, tmp_path / name)
    (tmp_path / sbom.LOCK).parent.mkdir(parents=True)
    for file in (sbom.LOCK, Path("pyproject.toml")):
        shutil.copy(REPOSITORY / file, tmp_path / file)
    with chdir(tmp_path):
        yield tmp_path


def bills(root):
    sbom.run(Path())
    texts = [(root / file).read_text() for file in sbom.FILES]
    for text in texts:
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    return texts, *map(json.loads, texts)


def hashes(part):
    return [one["content"] for one in part["hashes"]]


def test_the_bundle_is_listed_with_its_card_files_data_and_licence(root):
    texts, bundle, _ = bills(root)
    model, card = bundle["metadata"]["component"], read_json(root / "models/bundle/bundle.json")
    assert (model["name"], model["type"]) == (card["name"], "machine-learning-model")
    assert model["version"] == folder_digest(root / "models/bundle")
    assert hashes(model) == [model["version"]]
    assert {part["name"]: hashes(part) for part in model["components"]} == {
        file.name: [sha256(file)] for file in (root / "models/bundle").iterdir()
    }
    assert model["licenses"] == [{"expression": "Apache-2.0"}]
    parts = {part["bom-ref"]: part for part in bundle["components"]}
    for name in ("data", "holdout"):
        assert hashes(parts[name]) == [card["hashes"][name]]
    assert model["modelCard"]["modelParameters"]["task"] == card["task"]
    metrics = read_json(root / "reports/metrics.json")["holdout"]
    listed = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {one["type"]: float(one["value"]) for one in listed} == {
        name: metric["value"] for name, metric in metrics.items() if metric["value"] is not None
    }
    # The same files give the same bytes, whenever and however often.
    assert bills(root)[0] == texts


def test_the_image_is_listed_with_what_its_lock_installs_and_no_other(root):
    _, bundle, image = bills(root)
    text = (root / sbom.LOCK).read_text()
    lines = re.findall(r"^([a-z0-9-]+==[^\\\n]+)", text, flags=re.MULTILINE)
    pins = map(Requirement, lines)
    pinned = {pin.name for pin in pins if pin.marker is None or pin.marker.evaluate()}
    packages = [part for part in image["components"] if part["type"] == "library"]
    assert {part["name"] for part in packages} == pinned
    # A name that is pinned once for each Python is there once.
    assert len(packages) == len(pinned)
    for part in packages:
        assert f"{part['name']}=={part['version']}" in text
    assert [part for part in bundle["components"] if part["type"] == "library"] == packages
    assert image["serialNumber"] != bundle["serialNumber"]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("models/bundle/bundle.json", "bundle.json: not found; train writes it"),
        ("reports/metrics.json", "metrics.json: not found; evaluate writes it"),
        (str(sbom.LOCK), "requirements.lock: not found"),
    ],
)
@pytest.mark.parametrize("root", ["trips"], indirect=True)
def test_what_is_missing_or_damaged_is_named_and_nothing_is_written(root, file, reason):
    (root / file).rename(root / "away")
    with pytest.raises(UserError, match=reason):
        sbom.run(Path())
    (root / file).write_text("{}\n==\n")
    with pytest.raises(UserError, match="damaged"):
        sbom.run(Path())
    assert not (root / "verdict").exists()
