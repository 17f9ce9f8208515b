"""What came true is joined by request and row, whatever files it comes in."""

import gzip

import pytest

from mlops.base.errors import UserError
from mlops.monitoring import labels, logs
from tests.mlops.monitoring.place import NOW
from tests.mlops.serving import bundles


@pytest.fixture
def joined(place):
    """The rows that have a label: request, row and label."""

    def run(where="labels"):
        with logs.database() as database:
            card = place.card
            logs.read(database, "logs/production", place.root, (card, place.pin.digest), NOW)
            labels.read(database, where, place.root, card)
            return database.execute(
                "SELECT request, row, label FROM labelled ORDER BY ALL"
            ).fetchall()

    return run


def refusal(joined):
    with pytest.raises(UserError) as said:
        joined()
    assert len(str(said.value).splitlines()) == 1
    return str(said.value)


@pytest.mark.parametrize("file", ["labels.csv", "labels.parquet", "2026/03/labels.csv"])
def test_labels_find_their_answer(place, joined, file):
    place.answer(bundles.frame(3))
    (place.root / "labels" / file).parent.mkdir(parents=True, exist_ok=True)
    place.labels({"request": ["0-1", "0-2", "unknown"], "outcome": [1, 0, 1]}, file)
    assert joined() == [("0-1", 0, 1.0), ("0-2", 0, 0.0)]


def test_a_request_of_several_rows_has_a_label_for_each(place, joined):
    place.answer(bundles.frame(1), replace=('"row":0', '"row":4'))
    place.answer(bundles.frame(1))
    place.labels({"request": ["0-0", "0-0"], "row": [4, 9], "outcome": [1, 0]})
    assert joined() == [("0-0", 4, 1.0)]


def test_ids_that_look_like_numbers_keep_their_zeros(place, joined):
    place.answer(bundles.frame(1), replace=('"0-0"', '"007"'))
    place.labels({"request": ["007"], "outcome": [True]})
    assert joined() == [("007", 0, 1.0)]


def test_of_two_labels_the_last_file_counts_and_a_missing_one_is_none(place, joined):
    place.answer(bundles.frame(3))
    place.labels({"request": ["0-0", "0-1"], "outcome": [0, 1]}, "2026-03-01.csv")
    place.labels({"request": ["0-0", "0-1", "0-2"], "outcome": [1, None, None]}, "2026-03-02.csv")
    assert joined() == [("0-0", 0, 1.0), ("0-1", 0, 1.0)]


def test_labels_may_be_compressed_or_absent(place, joined):
    place.answer(bundles.frame(3))
    (place.root / "labels").mkdir()
    assert joined() == []
    content = gzip.compress(b"request,outcome\n0-0,1\n")
    (place.root / "labels" / "labels.csv.gz").write_bytes(content)
    assert joined() == [("0-0", 0, 1.0)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"id": ["0-0"], "outcome": [1]}, "no column 'request'"),
        ({"request": ["0-0"], "outcomes": [1]},
         "no column 'outcome'; did you mean 'outcomes'?"),
        ({"request": ["0-0"], "late": [1]}, "no column 'outcome'; it has request, late"),
        ({"request": ["0-0"], "outcome": [3]},
         "outcome: found '3', expected a class from 0 to 1"),
        ({"request": ["0-0"], "outcome": ["late"]},
         "outcome: found 'late', expected a class from 0 to 1"),
        ({"request": ["0-0"], "row": ["first"], "outcome": [1]}, "can't be read: "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["labels.csv", "labels.parquet"])
def test_a_file_that_is_wrong_is_named_with_what_is_wrong(place, joined, file, content, said):
    place.answer(bundles.frame(3))
    place.labels(content, file)
    assert refusal(joined).startswith(f"{place.root}/labels/{file}: {said}")


def test_a_file_that_is_not_what_its_ending_says_is_named(place, joined):
    (place.root / "labels").mkdir()
    (place.root / "labels" / "labels.parquet").write_text("request,outcome\n")
    assert refusal(joined).startswith(f"{place.root}/labels/labels.parquet: can't be read: ")


def test_a_place_that_is_not_there_is_said(joined):
    assert refusal(joined) == "params.yaml: monitoring.labels: found 'labels', no such folder"
