"""Columns that clients may leave out, or still send, in every form of every protocol."""

import msgspec
import numpy as np
import pandas as pd
import pytest

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.serving import batch, model
from tests.mlops.serving import bundles, forms

OPTIONAL, RETIRED = ("numbers", "city"), ("former",)


def declare(folder, **changes):
    card = msgspec.to_builtins(bundle.read_card(folder)) | changes
    del card["files"]
    bundle.write_card(folder, card)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = bundles.make(tmp_path_factory.mktemp("bundle") / "bundle", "lightgbm", "binary")
    return declare(made, optional=OPTIONAL, retired=RETIRED)


@pytest.fixture(scope="module")
def client(folder, serve):
    return serve(folder)


def probabilities(reply):
    assert reply.status == 200, reply.body
    answer = reply.json
    if "outputs" in answer:
        return answer["outputs"][0]["data"]
    return [row["probability"] for row in answer["predictions"]]


@pytest.mark.parametrize("form", forms.FORMS)
def test_a_column_left_out_is_missing_and_a_retired_one_ignored(folder, client, form):
    rows = bundles.frame(4)
    missing = rows.assign(numbers=np.float32(np.nan), city="")
    expected = bundle.Scorer(folder).predict(missing.head(1 if "one_record" in form else 4))
    for sent in (
        rows.drop(columns=[*OPTIONAL]),
        rows.drop(columns=[*OPTIONAL]).assign(former="x"),
        missing.drop(columns=["city"]).assign(former=np.float32(1.5)),
    ):
        request = forms.forms("binary-model")[form](sent)
        reply = client.post(request.path, request.body, request.headers)
        if forms.LENGTH.lower() in reply.headers:
            found = np.frombuffer(reply.body[int(reply.headers[forms.LENGTH.lower()]) :], "<f4")
        else:
            found = probabilities(reply)
        assert np.allclose(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("form", forms.FORMS)
def test_every_other_column_is_required_and_no_other_known(client, form):
    rows = bundles.frame(1)
    for sent, wrong in (
        (rows.drop(columns=["z"]), "column 'z': missing"),
        (rows.assign(formed=1.0), "unknown column 'formed'"),
    ):
        request = forms.forms("binary-model")[form](sent)
        reply = client.post(request.path, request.body, request.headers)
        assert reply.status == 422
        assert wrong in reply.json["error"]


def test_the_document_says_which_columns_may_be_left_out(client):
    record = client.get("/openapi.json").json["components"]["schemas"]["Record"]
    assert set(record["required"]) == set(bundles.COLUMNS) - set(OPTIONAL)
    assert record["properties"]["former"] == {"description": "ignored"}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_may_lack_an_optional_column(folder, tmp_path, suffix):
    rows = bundles.frame(50)
    table = tmp_path / f"rows.{suffix}"
    lacking = rows.drop(columns=[*OPTIONAL])
    lacking.to_csv(table, index=False) if suffix == "csv" else lacking.to_parquet(table)
    batch.run(folder, str(table), tmp_path / "scored.parquet")
    found = pd.read_parquet(tmp_path / "scored.parquet")["probability"]
    missing = rows.assign(numbers=np.float32(np.nan), city="")
    if suffix == "csv":
        # As text, nine digits may be one bit off.
        assert np.allclose(found, bundle.Scorer(folder).predict(missing), rtol=0, atol=1e-6)
    else:
        assert (found == bundle.Scorer(folder).predict(missing)).all()


@pytest.mark.parametrize("changes", [{"optional": ("nowhere",)}, {"retired": ("z",)}])
def test_a_card_whose_optional_or_retired_columns_contradict_its_inputs_is_refused(
    tmp_path, changes
):
    made = bundles.make(tmp_path / "bundle", "lightgbm", "binary")
    with pytest.raises(UserError, match=next(iter(changes))):
        model.load(declare(made, **changes))
