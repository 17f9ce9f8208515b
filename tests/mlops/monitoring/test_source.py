"""Answers are labelled by key from the project's own tables; published features are counted."""

import shutil
import time
from contextlib import chdir
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from mlops.contract import project
from mlops.data import targets
from mlops.monitoring import prometheus, watch
from tests.mlops.monitoring.place import ENVIRONMENT
from tests.mlops.monitoring.trips import MANIFEST, NOW

TARGETS = f".run/outcomes/{ENVIRONMENT}/{targets.FILE}"


def test_answers_are_judged_by_the_outcomes_of_their_keys_the_last_one_of_a_key_once(trips):
    rows = trips.features()
    trips.answer(rows.assign(rain=99.0))
    trips.answer(rows, NOW - timedelta(days=3))
    trips.answer(rows[:40], keys=[f"no-{n}" for n in range(40)])
    # Rows of the training never count.
    trips.answer(trips.features("training")[-200:])
    assessment = trips.watch()
    window = assessment.labelled[0]
    assert (window.labels, assessment.notes) == (len(rows), ())
    (main,) = [q for q in window.qualities if q.kind == "performance"]
    # Those of the holdout are the evidence's own rows.
    assert main.value == pytest.approx(main.before, abs=1e-6)


def test_outcomes_count_as_they_arrive_and_a_corrected_one_instead_of_the_earlier(trips):
    trips.workspace.change({"data.until": "2023-03-10"})
    rows = trips.features()
    trips.answer(rows)
    trips.delays(lambda day, delay: delay.mask(day > "2023-03-20"))
    known = int((rows["day"] <= "2023-03-20").sum())
    assert trips.watch().labelled[0].labels == known
    trips.workspace.edit_table("trips", lambda t: t.assign(delay=t["delay"].astype("Int64")))
    with duckdb.connect() as database:
        late = f"SELECT count(*) FILTER (late = 1) FROM '{trips.root / TARGETS}'"
        before = database.execute(late).fetchone()
        trips.delays(lambda day, delay: delay.mask(day == "2023-03-15", 60))
        trips.watch()
        assert database.execute(late).fetchone() > before


def test_an_unchanged_source_is_read_once_and_changed_features_read_it_again(trips):
    def made():
        return (trips.root / TARGETS).stat().st_ino

    trips.answer(trips.features()[:60])
    trips.watch()
    first = made()
    trips.answer(trips.features()[60:])
    assert trips.watch().labelled[0].labels == len(trips.features())
    assert made() == first
    source = trips.root / "src/trips"
    real = source.resolve()
    source.unlink()
    shutil.copytree(real, source)
    (source / "features.py").write_text((source / "features.py").read_text() + "\n")
    trips.watch()
    assert made() != first
    assert [f.name for f in (trips.root / TARGETS).parent.iterdir()] == [targets.FILE]


def test_a_source_that_cannot_be_read_is_a_note_and_drift_is_judged_all_the_same(trips):
    trips.answer(trips.features())
    for fault, note in (
        (lambda: trips.workspace.edit_table("trips", lambda rows: rows.assign(hour=99)),
         "less_than_or_equal_to"),
        (lambda: (trips.root / "csv").rename(trips.root / "away"), "data.location: found 'csv'"),
    ):  # fmt: skip
        fault()
        assessment = trips.watch()
        assert assessment.windows[0].features
        assert assessment.labelled == ()
        (line,) = assessment.notes
        assert line.startswith("no outcomes read, performance not judged: ")
        assert note in line
        assert "\n" not in line
    with chdir(trips.root):
        settings = trips.workspace.params()
        # What could not be judged is not ripe for a promotion.
        assert watch.outcome(settings, Path(), ENVIRONMENT, NOW)[1] == assessment.line


def test_keys_whose_outcomes_have_not_arrived_are_said_to_have_none(trips):
    trips.answer(trips.features()[:200], keys=[f"no-{n}" for n in range(200)])
    assert trips.watch().notes == ("no label fits an answer yet: performance not judged",)


def test_answers_without_keys_need_no_source(trips):
    trips.answer(trips.features(), keys=[])
    (trips.root / "csv").rename(trips.root / "away")
    assessment = trips.watch()
    assert (assessment.notes, assessment.labelled) == ((), ())
    assert not (trips.root / ".run/outcomes").exists()


def test_a_target_that_is_not_the_bundles_labels_nothing(trips):
    trips.answer(trips.features())
    source = trips.root / "src/trips"
    real = source.resolve()
    source.unlink()
    shutil.copytree(real, source)
    text = (source / "features.py").read_text()
    (source / "features.py").write_text(text.replace('TARGET = "late"', 'TARGET = "tardy"'))
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(source.parent)
        project.forget("trips")
        (note,) = trips.watch().notes
    assert "no column 'late'; it has trip, day, tardy" in note


def test_published_features_are_counted_against_the_keys_of_the_next_day(trips):
    trips.workspace.change({"data.until": "2023-03-31"})
    trips.delays(lambda day, delay: delay.mask(day > "2023-04-10"))
    trips.answer(trips.features()[:4])
    assert trips.watch().published is None
    trips.publish(date(2023, 4, 11), date(2023, 4, 12))
    assessment = trips.watch()
    assert (assessment.published.expected, assessment.published.found) == (12, 12)
    assert assessment.published.made == pytest.approx(time.time(), abs=600)
    trips.delays(lambda day, delay: delay.mask(day < "2023-04-13", 1).mask(day > "2023-04-12"))
    assessment = trips.watch()
    assert (assessment.published.expected, assessment.published.found) == (12, 0)
    assert "features of 0 of 12 keys of the next day are published: mlops features" in (
        assessment.notes
    )
    text = prometheus.text(assessment).decode()
    assert 'mlops_monitoring_features_found{environment="production"} 0.0' in text
    trips.workspace.change({"monitoring.labels": "came-true"})
    (trips.root / "came-true").mkdir()
    (trips.root / "csv").rename(trips.root / "away")
    assessment = trips.watch()
    # Labels of files do not need the source.
    assert assessment.unread == ""
    assert assessment.notes[0].startswith("features not watched: params.yaml: data.location: ")
    assert assessment.published.made
    trips.manifest(MANIFEST.replace("pin:", "serving: {store: redis, features: NOT_SET/x}\npin:"))
    assessment = trips.watch()
    assert assessment.notes[0].startswith("features not watched: features: found 'NOT_SET/x'")
