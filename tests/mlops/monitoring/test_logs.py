"""The service's logs are read, however files rotate, break off or mix."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlops.base.errors import UserError
from mlops.monitoring import files, logs
from mlops.monitoring.answers import service
from mlops.serving import model
from mlops.serving.metrics import Metrics
from mlops.serving.samples import Sample, Samples
from mlops.serving.settings import Settings
from tests.mlops.monitoring.place import NOW, given
from tests.mlops.serving import bundles

COUNTS = {"judged": 0, "other": 0, "future": 0, "failed": 0, "broken": 0}


@pytest.fixture
def read(place):
    """Read a place's logs: the line counts, and the result of a query of the answers."""

    def run(query="SELECT count(*) FROM answers", where="logs/production", now=NOW):
        with logs.database() as database:
            counts = logs.read(database, "service", place.asked(where, now=now))
            return counts, database.execute(query).fetchall()

    return run


def append(place, content):
    with (place.logs / "predictions-1.jsonl").open("ab") as log:
        log.write(content)


def test_rows_are_read_as_the_service_received_them(place, read):
    rows = bundles.frame(50, seed=1)
    place.answer(rows)
    _, answers = read("SELECT i0, i1, i2, i3, i4, i5 FROM answers ORDER BY time")
    expected = rows[["words", "numbers", "z", "city", "höhe", "numbers_0"]]
    for answer, (_, row) in zip(answers, expected.iterrows(), strict=True):
        assert list(answer) == [None if v in ("", None) or v != v else v for v in row]


def test_files_of_a_real_writer_are_read_with_those_that_it_rotated_away(place, read):
    served = model.load(place.folder / "models/bundle", "7")
    settings = Settings(samples=place.logs / "deeper", sample_bytes=20_000, sample_files=5)
    samples = Samples(settings, Metrics())
    samples.start()
    rows = bundles.frame(40, seed=1)
    asked = given(served, rows)
    for request in range(3):
        name, outputs = f"request-{request}", served.score(asked.arrays)
        samples.offer(Sample(time.time(), name, served, asked, outputs, size=40))
    samples.stop()
    assert len(list((place.logs / "deeper").glob("predictions-*.jsonl.*"))) >= 1
    counts, answers = read(
        "SELECT count(DISTINCT request), count(DISTINCT row), count(o0) FROM answers",
        now=datetime.fromtimestamp(time.time() + 1, UTC),
    )
    assert (counts, answers) == (COUNTS | {"judged": 120}, [(3, 40, 120)])


BROKEN = [
    b"not json", b"[1, 2]", b"null", b"{}", b"\xff\xfe\x00", b"\x00" * 100, b"[" * 5000,
    b'{"time": "soon", "digest": "D", "inputs": {}, "outputs": {}}',
    b'{"time": 1774785600.0, "digest": "D", "inputs": [], "outputs": {}}',
    b'{"time": 1774785600.0, "digest": "D", "inputs": {}}',
    b'{"time": 1774785600.0, "digest": null, "inputs": {}, "outputs": {}}',
    b'{"time": 1774785600.0, "digest": "D", "inputs": {}, "outputs": {}}{"time": 1}',
    b'{"time": 1e999, "digest": "D", "inputs": {}, "outputs": {}}',
]  # fmt: skip


def test_broken_lines_among_others_are_counted(place, read):
    for line in BROKEN:
        place.answer(bundles.frame(2))
        append(place, line.replace(b'"D"', f'"{place.pin.digest}"'.encode()) + b"\n")
    append(place, b'{"time":1774785600.0,"request":"half written","ver')
    counts, answers = read()
    judged, broken = 2 * len(BROKEN), len(BROKEN) + 1
    assert (counts, answers) == (COUNTS | {"judged": judged, "broken": broken}, [(judged,)])
    assert logs.left_out(counts) == [f"not judged: {broken} lines that can't be read"]


def test_a_value_of_another_type_is_missing_and_an_unknown_column_is_skipped(place, read):
    place.answer(bundles.frame(5, missing=0), replace=('"z":', '"z":"much","new":'))
    counts, answers = read("SELECT count(i1), count(i2) FROM answers")
    assert (counts, answers) == (COUNTS | {"judged": 5}, [(5, 0)])


def test_rows_of_other_bundles_and_of_the_future_are_counted_and_not_judged(place, read):
    place.answer(bundles.frame(7), replace=(place.pin.digest, "f" * 64))
    place.answer(bundles.frame(5), window=1)
    place.answer(bundles.frame(10), window=-1)
    append(place, b'{"time":1.0,"digest":"x","inputs":{"z":[1]},"outputs":{"much":"words"}}\n')
    counts, answers = read()
    assert (counts, answers) == (COUNTS | {"judged": 5, "other": 8, "future": 10}, [(5,)])
    assert logs.left_out(counts) == [
        "not judged: 8 rows answered by other bundles",
        "not judged: 10 rows from the future, so a clock is wrong",
    ]


def test_a_row_as_large_as_the_service_accepts_is_read_and_a_larger_one_refused(
    place, read, monkeypatch
):
    monkeypatch.setattr(service, "LONGEST", 18_000_000)
    place.answer(bundles.frame(1), replace=('"city":"', '"city":"' + "x" * 17_000_000))
    assert read("SELECT length(i3) > 16000000 FROM answers")[1] == [(True,)]
    place.answer(bundles.frame(1), replace=('"city":"', '"city":"' + "x" * 19_000_000))
    with pytest.raises(UserError, match="^logs/production: can't be read: ") as refused:
        read()
    assert len(str(refused.value).splitlines()) == 1


def test_a_place_without_lines_has_no_answers_and_an_unknown_kind_of_url_is_refused(place, read):
    assert read() == (COUNTS, [(0,)])
    append(place, b"")
    assert read() == (COUNTS, [(0,)])
    with pytest.raises(UserError, match=r"^params.yaml: monitoring.logs: odd://x: .*odd"):
        read(where="odd://x")


def test_logs_may_lie_below_a_url(place, read):
    import fsspec

    place.answer(bundles.frame(9))
    content = (place.logs / "predictions-1.jsonl").read_bytes()
    fsspec.filesystem("memory").pipe("memory://far/host-1/predictions-1.jsonl", content)
    assert read(where="memory://far")[1] == [(9,)]


def test_a_file_that_is_rotated_away_while_it_is_read_is_listed_again(place, read, monkeypatch):
    place.answer(bundles.frame(9))
    removed, listed = str(place.logs / "predictions-2.jsonl"), files.listed
    tries = iter([[removed], []])
    monkeypatch.setattr(service, "listed", lambda *arguments: [*listed(*arguments), *next(tries)])
    assert read()[1] == [(9,)]


def test_the_database_is_deleted_afterwards_and_downloads_no_extension():
    with logs.database() as database:
        file = database.execute("PRAGMA database_list").fetchall()[0][2]
        assert Path(file).exists()
        setting = database.execute("SELECT current_setting('autoinstall_known_extensions')")
        assert setting.fetchall() == [(False,)]
    assert not Path(file).exists()
