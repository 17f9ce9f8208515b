"""The images' workflow on both forges: the job that builds may do nothing, the other signs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ci_checks
from tests.conftest import REPOSITORY

GITHUB, AZURE = ".github/workflows/images.yml", ".azure/images.yml"
pytestmark = pytest.mark.skipif(
    not all((REPOSITORY / name).exists() for name in (GITHUB, AZURE)), reason="one forge is here"
)
BUILD = "    timeout-minutes: 30\n    permissions:\n      contents: read\n    steps"


def read(name: str, root: Path = REPOSITORY) -> Any:
    return yaml.load((root / name).read_text(), yaml.BaseLoader)


def azure_steps(stage: str) -> list[Any]:
    (found,) = (one for one in read(AZURE)["stages"] if one["stage"] == stage)
    job = found["jobs"][0]
    deployment = job.get("strategy", {}).get("runOnce", {}).get("deploy", job)
    return list(deployment["steps"])


def test_both_forges_run_the_same_commands():
    verb = re.compile(r"(?:make image|docker (?:save|load))[^\n]*")
    place = re.compile(r'"\$(?:RUNNER_TEMP|PIPELINE_WORKSPACE)/(?:image/)?|"\$(?:IMAGE_)?REGISTRY"')
    texts = [(REPOSITORY / name).read_text() for name in (GITHUB, AZURE)]
    github, azure = ([place.sub("", one) for one in verb.findall(text)] for text in texts)
    assert github == azure
    assert len(github) == 4


def test_what_builds_has_no_identity_and_what_has_one_builds_nothing_from_outside():
    jobs = read(GITHUB)["jobs"]
    built, published = (str(jobs[name]["steps"]) for name in ("build", "publish"))
    assert "id-token" not in jobs["build"]["permissions"]
    assert "make image'" in built
    assert "make image'" not in published
    built, published = (str(azure_steps(name)) for name in ("Build", "Publish"))
    assert not re.search("AzureCLI|ServiceConection|azureImages", built)
    assert "make image'" not in published


def test_an_image_is_scanned_before_it_is_kept_and_signed_after_it_is_pushed():
    jobs = read(GITHUB)["jobs"]
    for first, then in [("build", ["scan-action", "docker save", "upload-artifact"]),
                        ("publish", ["docker load", "image-push", "cosign sign"])]:  # fmt: skip
        text = str(jobs[first]["steps"])
        assert sorted(then, key=text.index) == then
    for stage, then in [("Build", ["docker save", "grype", "'publish'"]),
                        ("Publish", ["docker load", "image-push", "'sign'"])]:  # fmt: skip
        text = str(azure_steps(stage))
        assert sorted(then, key=text.index) == then


@pytest.mark.parametrize(("check", "old", "new"), [
    ("unlike", BUILD, BUILD.replace("read\n", "read\n      id-token: write\n")),
    ("unlike", "    environment: images\n", ""),
    ("started", "[main]", "[main, other]"),
    ("started", "  push:\n", "  pull_request:\n  push:\n"),
    ("artifacts", "path: ${{ runner.temp }}/image\n", "path: src/image\n"),
    ("checkouts", "persist-credentials: false", "persist-credentials: true"),
    ("injected", 'REGISTRY="$REGISTRY"', "REGISTRY=${{ vars.IMAGE_REGISTRY }}"),
    ("zizmor", "scan-action@e1165082ffb1fe366ebaf02d8526e7c4989ea9d2", "scan-action@v7"),
])  # fmt: skip
def test_a_breakage_is_found(tmp_path, check, old, new):
    for name in (".github", ".azure", "azure-pipelines.yml"):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, tmp_path / name)
    text = (tmp_path / GITHUB).read_text()
    assert old in text
    (tmp_path / GITHUB).write_text(text.replace(old, new))
    assert any(True for _ in getattr(ci_checks, check)(tmp_path))
