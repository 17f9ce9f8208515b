"""Columns that clients may leave out, or still send, in every form of every protocol."""

import shutil

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


def test_every_other_column_is_required_and_no_other_known(client):
    rows = bundles.frame(1)
    for form in forms.forms("binary-model").values():
        for sent, wrong in (
            (form(rows.drop(columns=["z"])), "column 'z': missing"),
            (form(rows.assign(formed=1.0)), "unknown column 'formed'"),
        ):
            reply = client.post(sent.path, sent.body, sent.headers)
            assert (reply.status, wrong in reply.error) == (422, True)


def test_the_document_says_which_columns_may_be_left_out(client):
    record = client.get("/openapi.json").json["components"]["schemas"]["Record"]
    assert set(record["required"]) == set(bundles.COLUMNS) - set(OPTIONAL)
    assert record["properties"]["former"] == {"description": "ignored"}


def test_a_table_may_lack_an_optional_column(folder, tmp_path):
    rows = bundles.frame(50)
    rows.drop(columns=[*OPTIONAL]).to_parquet(tmp_path / "rows.parquet")
    batch.run(folder, f"{tmp_path}/rows.parquet", tmp_path / "scored.parquet")
    found = pd.read_parquet(tmp_path / "scored.parquet")["probability"]
    missing = rows.assign(numbers=np.float32(np.nan), city="")
    assert (found == bundle.Scorer(folder).predict(missing)).all()


@pytest.mark.parametrize("changes", [{"optional": ("nowhere",)}, {"retired": ("z",)}])
def test_a_card_whose_optional_or_retired_columns_contradict_its_inputs_is_refused(
    folder, tmp_path, changes
):
    copy = shutil.copytree(folder, tmp_path / "bundle")
    with pytest.raises(UserError, match=next(iter(changes))):
        model.load(declare(copy, **changes))
