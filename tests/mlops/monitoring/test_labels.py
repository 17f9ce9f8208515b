"""Labels are joined by request and row, whatever files they come in."""

import duckdb
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlops.base.errors import UserError
from mlops.monitoring import labels, logs
from tests.mlops.monitoring.place import NOW
from tests.mlops.serving import bundles


@pytest.fixture
def joined(place):
    """The answers that have a label: request, row and label."""

    def run(**changes):
        with logs.database() as database:
            card = msgspec.structs.replace(place.card, **changes)
            logs.read(database, "service", place.asked("logs/production", card))
            labels.read(database, "labels", place.root, card)
            return database.execute(
                "SELECT request, row, label FROM labelled ORDER BY ALL"
            ).fetchall()

    return run


@pytest.mark.parametrize(
    "file", ["labels.csv", "labels.csv.gz", "labels.parquet", "2026/03/labels.csv"]
)
def test_labels_are_joined_to_their_answer(place, joined, file):
    place.answer(bundles.frame(3))
    place.labels({"request": ["0-1", "0-2", "unknown"], "outcome": [1, 0, 1]}, file)
    assert joined() == [("0-1", 0, 1.0), ("0-2", 0, 0.0)]


@given(time=st.floats(min_value=0, max_value=NOW.timestamp()))
@example(time=1774000000.6322143)
@settings(max_examples=25)
def test_the_newest_labelled_answer_is_never_after_the_time_that_ends_its_window(time):
    with duckdb.connect() as database:
        database.execute("CREATE TABLE answers AS SELECT $1::DOUBLE AS time, 'a' AS key", [time])
        newest = labels._join(database, "(SELECT 'a' AS key, 1.0 AS label) l USING (key)")
        where = f"time <= {newest.timestamp()!r}"
        rows = database.sql(f"SELECT count(*) FROM labelled WHERE {where}").fetchall()
        assert rows == [(1,)]


def test_a_request_of_several_rows_has_a_label_for_each(place, joined):
    place.answer(bundles.frame(1), replace=('"row":0', '"row":4'))
    place.answer(bundles.frame(1))
    place.labels({"request": ["0-0", "0-0"], "row": [4, 9], "outcome": [1, 0]})
    assert joined() == [("0-0", 4, 1.0)]


def test_ids_that_look_like_numbers_keep_their_zeros(place, joined):
    place.answer(bundles.frame(1), replace=('"0-0"', '"007"'))
    place.labels({"request": ["007"], "outcome": [True]})
    assert joined() == [("007", 0, 1.0)]


def test_of_two_labels_the_last_files_counts_and_a_missing_one_does_not(place, joined):
    place.answer(bundles.frame(3))
    place.labels({"request": ["0-0", "0-1"], "outcome": [0, 1]}, "2026-03-01.csv")
    place.labels({"request": ["0-0", "0-1", "0-2"], "outcome": [1, None, None]}, "2026-03-02.csv")
    assert joined() == [("0-0", 0, 1.0), ("0-1", 0, 1.0)]


@pytest.mark.parametrize("file", ["labels.csv", "labels.parquet"])
def test_classes_with_names_are_labelled_by_them(place, joined, file):
    place.answer(bundles.frame(3))
    place.labels({"request": ["0-0", "0-1", "0-2"], "outcome": ["yes", "no", None]}, file)
    assert joined(labels=("no", "yes")) == [("0-0", 0, 1.0), ("0-1", 0, 0.0)]
    with pytest.raises(UserError, match="outcome: found 'yes', expected one of ja, nein"):
        joined(labels=("ja", "nein"))


@pytest.mark.parametrize("file", ["labels.csv", "labels.parquet"])
def test_an_invalid_file_is_named_with_its_fault(place, joined, file):
    path = place.root / "labels" / file
    for content, message in (
        ({"id": ["0-0"], "outcome": [1]}, "no column 'request'"),
        ({"request": ["0-0"], "outcomes": [1]}, "no column 'outcome'; did you mean 'outcomes'?"),
        ({"request": ["0-0"], "outcome": [3]}, "outcome: found '3', expected a class from 0 to 1"),
        ({"request": ["0-0"], "row": ["first"], "outcome": [1]}, "can't be read: "),
        (b"\x00\xff\n", ""),
    ):
        path.write_bytes(content) if isinstance(content, bytes) else place.labels(content, file)
        with pytest.raises(UserError) as refused:
            joined()
        assert str(refused.value).startswith(f"{path}: {message}")
        assert len(str(refused.value).splitlines()) == 1
