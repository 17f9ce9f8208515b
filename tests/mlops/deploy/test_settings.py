"""The environment variables of targets: as the docs list them, and asked for by name."""

import os
import re

import pytest

from mlops import deploy
from mlops.base.errors import UserError
from tests.conftest import REPOSITORY

SECTION = re.compile(r"^## What a deployment needs\n(.*?)^## ", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", re.MULTILINE)


def listed(target, attribute):
    module = deploy.named(target)
    return {name for one in getattr(module, attribute, ()) for name in one.split(" or ")}


def test_the_docs_list_every_targets_variables():
    (section,) = SECTION.findall((REPOSITORY / "docs/gitops.md").read_text())
    table = {name: [set(re.findall(r"`(\w+)`", cell)) for cell in cells]
             for name, *cells in ROW.findall(section)}  # fmt: skip
    folders = {path.parent.name for path in (REPOSITORY / "src/mlops/deploy").glob("*/__init__.py")}
    assert table == {name: [listed(name, key) for key in ("NEEDS", "READS")] for name in folders}


def test_what_is_missing_or_empty_is_named_and_one_of_several_is_enough(monkeypatch):
    for name in listed("databricks", "NEEDS"):
        monkeypatch.setenv(name, "")
    with pytest.raises(UserError) as error:
        deploy.require_settings("databricks", "here")
    assert str(error.value) == (
        "here: databricks needs DATABRICKS_HOST or DATABRICKS_CONFIG_PROFILE, found nothing; "
        "see 'What a deployment needs' in docs/gitops.md"
    )
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "work")
    deploy.require_settings("databricks", "here")
    deploy.require_settings("local", "here")


def test_an_empty_variable_is_not_there_for_the_vendors_libraries(monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "")
    monkeypatch.setenv("AZURE_CLIENT_ID", "an-id")
    deploy.named("azureml")
    assert "AZURE_CLIENT_SECRET" not in os.environ
    assert os.environ["AZURE_CLIENT_ID"] == "an-id"
