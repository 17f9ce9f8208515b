"""Models, versions, aliases and experiments as Unity Catalog and Databricks take their names.

MLflow's own client and store classes ask; the answers are those of `unity_catalog.py`.
"""

import json

import pytest

from mlops.base.errors import UserError
from mlops.base.files import folder_digest
from mlops.contract import bundle
from mlops.pipeline import tracking, tracking_server
from mlops.registry import register, versions
from tests import tracking_api
from tests.mlops.deploy.cloud import Fault
from tests.mlops.registry.unity_catalog import UnityCatalog

pytestmark = pytest.mark.slow
MODEL, PRODUCTION = "dev.models.wine", "production.models.wine"


@pytest.fixture
def catalog():
    with UnityCatalog() as catalog:
        yield catalog


@pytest.fixture
def wines(finished, tmp_path, monkeypatch, catalog):
    """A workspace that tracks in its own file and registers in Unity Catalog."""
    workspace = named(finished("wine").copy(tmp_path / "wine"))
    for name, value in catalog.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(tracking_server.REGISTRY, "databricks-uc")
    return workspace


def named(workspace, model=MODEL):
    """The workspace whose bundle is of another registered model."""
    card = workspace.root / "models/bundle" / bundle.CARD
    card.write_text(json.dumps({**json.loads(card.read_text()), "name": model}))
    return workspace.change({"model": model})


def test_a_bundle_is_one_version_with_its_digest_and_the_alias(wines, catalog):
    first, again = wines.run("register"), wines.run("register")
    digest = bundle.digest(wines.root / "models/bundle")
    assert (first.version, first.new, first.model) == (1, True, MODEL)
    assert (again.version, again.new) == (1, False)
    tags = catalog.tags(MODEL, 1)
    assert tags["mlops_bundle"] == digest
    assert tags["mlops_evidence"] == folder_digest(wines.root / "reports")
    assert versions.by_alias(wines.root, MODEL, "challenger") == versions.Version(
        1, first.run, digest
    )
    folder, version = versions.fetch(f"models:/{MODEL}@challenger", wines.root)
    assert (folder_digest(folder), version) == (digest, "1")


@pytest.mark.nightly
def test_the_registered_model_s_files_score_as_the_bundle_does(wines, catalog):
    import numpy as np
    import pandas as pd
    from mlflow import pyfunc

    wines.run("register")
    scorer = bundle.Scorer(wines.root / "models/bundle")
    rows = pd.read_parquet(wines.root / "data/features/holdout.parquet").head(50)
    frame = rows[[column.name for column in scorer.card.inputs]]
    model = pyfunc.load_model(f"models:/{MODEL}/1")
    prediction = pd.DataFrame(model.predict(frame)).to_numpy().reshape(-1, 3)
    assert np.abs(prediction - scorer.predict(frame)).max() < 1e-6


def test_a_version_is_found_by_digest_on_any_page_and_only_when_it_is_whole(wines, catalog):
    from mlflow.protos import databricks_uc_registry_messages_pb2 as messages

    catalog.models.add(MODEL)
    for number, digest in enumerate(("aa", "bb", "cc", "bb", "dd"), start=1):
        catalog.versions[MODEL, str(number)] = messages.ModelVersion(
            name=MODEL, version=str(number), status=messages.READY,
            tags=[messages.ModelVersionTag(key="mlops_bundle", value=digest)],
        )  # fmt: skip
    # What was killed while it copied its files has its tags already.
    catalog.versions[MODEL, "1"].status = messages.PENDING_REGISTRATION
    found = {digest: versions.by_digest(wines.root, MODEL, digest)
             for digest in ("aa", "bb", "dd", "ee")}  # fmt: skip
    assert {digest: one and one.number for digest, one in found.items()} == {
        "aa": None, "bb": 2, "dd": 5, "ee": None,
    }  # fmt: skip
    assert versions.by_digest(wines.root, "dev.models.nothing", "aa") is None


@pytest.mark.nightly
def test_a_registration_that_was_killed_is_made_anew(wines, catalog):
    catalog.faults = [Fault("model-versions/finalize", 400, {"error_code": "BAD_REQUEST"})]
    with pytest.raises(UserError):
        wines.run("register")
    result = wines.run("register")
    assert (result.version, result.new) == (2, True)


@pytest.mark.nightly
def test_an_alias_moves_and_is_removed_and_never_to_a_missing_version(wines, catalog):
    wines.run("register")
    versions.set_alias(wines.root, MODEL, "staging", 1)
    assert catalog.aliases[MODEL, "staging"] == "1"
    with pytest.raises(UserError, match=r"version 9 does not exist"):
        versions.set_alias(wines.root, MODEL, "staging", 9)
    versions.set_alias(wines.root, MODEL, "staging", None)
    assert versions.by_alias(wines.root, MODEL, "staging") is None
    assert versions.by_alias(wines.root, "dev.models.nothing", "staging") is None


def test_another_environment_s_catalog_gets_the_very_bundle_once(wines, catalog):
    wines.run("register")
    digest = bundle.digest(wines.root / "models/bundle")
    numbers = [register.adopt(wines.root, wines.root, "0" * 40, PRODUCTION) for _ in range(2)]
    assert numbers == [1, 1]
    assert catalog.tags(PRODUCTION, 1)["mlops_bundle"] == digest
    folder, _ = versions.fetch(f"models:/{PRODUCTION}/1", wines.root)
    assert folder_digest(folder) == digest


@pytest.mark.nightly
def test_a_copy_whose_bytes_are_not_the_digest_s_is_refused(wines, catalog):
    wines.run("register")
    (tag,) = (tag for tag in catalog.versions[MODEL, "1"].tags if tag.key == "mlops_bundle")
    tag.value = "1" * 64
    with pytest.raises(UserError, match=rf"models:/{MODEL}/1: found digest"):
        versions.fetch(f"models:/{MODEL}/1", wines.root)
    model = wines.root / "models/bundle/model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model.onnx: found .*, expected digest"):
        register.adopt(wines.root, wines.root, "0" * 40, PRODUCTION)
    assert (PRODUCTION, "1") not in catalog.versions


REFUSED = {
    "one part": ("databricks", "wine-model", "", "model: found 'wine-model', expected CATALOG"),
    "two parts": ("databricks://other", "models.wine", "", "model: found 'models.wine'"),
    "an empty part": ("databricks", "dev..wine", "", "model: found 'dev..wine'"),
    "no path": ("databricks", MODEL, "wine", "MLFLOW_EXPERIMENT_NAME: found 'wine', expected an"),
    "no folder": ("databricks", MODEL, "/wine", "MLFLOW_EXPERIMENT_NAME: found '/wine'"),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_a_name_that_databricks_refuses_ends_the_first_stage(
    refused, finished, tmp_path, command, monkeypatch
):
    uri, model, experiment, line = REFUSED[refused]
    workspace = finished("wine").copy(tmp_path / "wine").change({"model": model})
    monkeypatch.setenv(tracking_server.VARIABLE, uri)
    monkeypatch.setenv(tracking_server.EXPERIMENT, experiment)
    done = command(workspace, "ingest")
    assert done.code == 2
    assert done.err.startswith(f"error: {line}")
    assert done.err.count("\n") == 1


NAMES = {
    ("databricks", "", ""): (f"/Shared/{MODEL}", True),
    ("databricks://profile", "/Users/me@here/wine", ""): ("/Users/me@here/wine", True),
    ("databricks", "", "databricks"): (f"/Shared/{MODEL}", False),
    ("http://there", "", "databricks-uc://profile"): (MODEL, True),
    ("http://there", "another", ""): ("another", False),
    ("", "", ""): (MODEL, False),
}


@pytest.mark.parametrize("given", NAMES)
def test_the_tools_own_variables_name_experiment_and_registry(given, tmp_path, monkeypatch):
    variables = (tracking_server.VARIABLE, tracking_server.EXPERIMENT, tracking_server.REGISTRY)
    for variable, value in zip(variables, given, strict=True):
        monkeypatch.setenv(variable, value)
    named = tracking_server.experiment_name(MODEL, tmp_path)
    assert (named, tracking_server.has_unity_catalog(tmp_path)) == NAMES[given]


def test_tags_are_as_the_registry_takes_them(tmp_path, monkeypatch):
    tags = {"mlops.bundle": "1" * 64, "mlops.classes": "a" * (versions.LONGEST + 1)}
    assert versions.accepted(tags, tmp_path) == tags
    monkeypatch.setenv(tracking_server.REGISTRY, "databricks-uc")
    assert versions.accepted(tags, tmp_path) == {"mlops_bundle": "1" * 64}


@pytest.mark.nightly
def test_with_databricks_alone_runs_and_model_are_in_its_workspace(
    finished, store, tmp_path, monkeypatch
):
    from mlflow import MlflowClient

    api = tracking_api.application(store, tmp_path / "server", monkeypatch).test_client()
    workspace = named(finished("wine").copy(tmp_path / "wine"))
    with UnityCatalog(api) as catalog:
        environment = {**catalog.environment(), tracking_server.VARIABLE: "databricks"}
        done = workspace.command("register", **environment)
        assert done.code == 0, done.err
        digest = bundle.digest(workspace.root / "models/bundle")
        assert catalog.tags(MODEL, 1)["mlops_bundle"] == digest
        assert catalog.aliases == {(MODEL, "challenger"): "1"}
    client = MlflowClient(f"sqlite:///{tmp_path}/server/mlflow.db")
    experiment = client.get_experiment_by_name(f"/Shared/{MODEL}")
    assert tracking.find(client, experiment.experiment_id, "mlops.bundle", digest)
    assert not client.search_registered_models()
