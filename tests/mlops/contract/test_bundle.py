"""A bundle is what its card says, byte for byte, and scores without the rest of the repository."""

import json

import numpy as np
import pandas as pd
import pytest

from mlops.base.errors import UserError
from mlops.contract import bundle


@pytest.fixture
def folder(finished, tmp_path):
    return finished("wine").copy(tmp_path).root / "models/bundle"


@pytest.fixture(scope="module")
def wines(finished):
    return pd.read_parquet(finished("wine").root / "data/features/holdout.parquet")


@pytest.mark.parametrize("name", ["model.onnx", "reference.parquet", "bundle.json"])
def test_one_other_byte_changes_the_digest_and_is_detected(folder, name):
    before, content = bundle.digest(folder), bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert bundle.digest(folder) != before
    # Another byte of the card may be a word of its text.
    if name != "bundle.json":
        with pytest.raises(UserError, match=rf"{name}: found [0-9a-f]{{12}}, expected digest"):
            bundle.Scorer(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: (found nothing, expected digest|not found)"):
        bundle.read_card(folder)


@pytest.mark.parametrize(
    "change", [{"threshold": "high"}, {"accuracy": 1.0}, {"task": "clustering"}]
)
def test_a_card_with_other_content_is_refused_in_one_line(folder, change):
    card = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(card | change))
    with pytest.raises(UserError, match="not a bundle's card") as error:
        bundle.read_card(folder)
    assert len(str(error.value).splitlines()) == 1


def test_columns_are_found_by_name_and_odd_values_are_scored(folder, wines):
    scorer = bundle.Scorer(folder)
    other = wines[list(reversed(wines.columns))].assign(more=1)
    assert (scorer.predict(other) == scorer.predict(wines)).all()
    numbers = wines.select_dtypes("number").columns
    odd = wines.head(3).assign(shade=["green", None, ""], **dict.fromkeys(numbers, np.nan))
    assert scorer.predict(odd).shape == (3, 3)
    assert np.isfinite(scorer.predict(odd)).all()


def test_the_reference_holds_the_inputs_and_what_the_model_says_of_them(folder):
    scorer, reference = bundle.Scorer(folder), pd.read_parquet(folder / "reference.parquet")
    predicted = reference[["prediction_0", "prediction_1", "prediction_2"]].to_numpy()
    assert predicted == pytest.approx(scorer.predict(reference), abs=1e-6)
    assert [column.name for column in scorer.card.inputs] == list(reference)[:-3]
    words = {column.name: column.categories for column in scorer.card.inputs}
    assert (words["shade"], words["alcohol"]) == (("deep", "mid", "pale"), ())
