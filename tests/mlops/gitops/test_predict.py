"""The coming rows: predicted with what production pins, and published so that keys are asked."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import chdir
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests

from flows import checkout
from mlops.base.errors import UserError
from mlops.contract.bundle import Scorer, digest
from mlops.data import coming
from mlops.data.as_of import Span
from mlops.deploy import manifest, predict
from mlops.gitops import status
from mlops.serving import stores
from tests.conftest import REPOSITORY
from tests.mlops.deploy.processes import stop
from tests.mlops.gitops.conftest import committed

PREDICTED = ".run/predictions/production/predictions"
BUNDLE = "models/bundle"


@pytest.fixture
def arriving(clone):
    """Production pins a bundle; of the last five days of April no outcome is known yet."""
    clone.pin("production", clone.judged_pin())
    clone.workspace.change({"data.until": "2023-04-20"})

    def known(rows):
        return rows.assign(delay=rows["delay"].astype("Int64").mask(rows["day"] > "2023-04-25"))

    clone.workspace.edit_table("trips", known)
    return clone


def features(clone, first, last):
    with chdir(clone.root), coming.refreshed(clone.params(), Path()) as tables:
        ((spec, rows),) = tables.features([Span(first, last, first)])
        return spec, rows.to_pandas()


def test_the_coming_days_are_predicted_as_the_pinned_bundle_scores_them(arriving):
    code, out, err = arriving.command("predict")
    assert (code, err) == (0, "")
    assert "60 rows of 2023-04-26 to 2023-04-30 predicted" in out
    folder = arriving.root / PREDICTED
    days = [date(2023, 4, n) for n in range(26, 31)]
    assert sorted(path.name for path in folder.iterdir()) == [f"day={day}" for day in days]
    rows = pd.read_parquet(folder).sort_values(["day", "key"], ignore_index=True)
    spec, made = features(arriving, days[0], days[-1])
    assert rows["key"].tolist() == made[spec.key].tolist()
    scores = Scorer(arriving.root / BUNDLE).predict(made)
    np.testing.assert_array_equal(rows["probability"], scores)
    assert set(rows["digest"]) == {digest(arriving.root / BUNDLE)}
    assert {"decision", "refused", "model", "version", "made_at"} <= set(rows)

    kept = (folder / "day=2023-04-27/part.parquet").read_bytes()
    code, out, _ = arriving.command("predict", "--from", "2023-04-28", "--to", "2023-04-28")
    assert (code, "12 rows of 2023-04-28" in out) == (0, True)
    assert (folder / "day=2023-04-27/part.parquet").read_bytes() == kept
    again = pd.read_parquet(folder / "day=2023-04-28")
    # As of that day, more of the days before was known: none is, so nothing has moved.
    assert len(again) == 12


def test_days_without_rows_are_left_out_and_named_where_there_is_none(arriving):
    def without(rows):
        return rows[~rows["day"].isin(["2023-04-27", "2023-04-28"])]

    arriving.workspace.edit_table("trips", without)
    code, out, err = arriving.command("predict")
    assert (code, err) == (0, "")
    assert "36 rows of 2023-04-26 to 2023-04-30 predicted" in out
    assert "; no rows on 2023-04-27, 2023-04-28, whose predictions stay as they were" in out
    found = sorted(path.name for path in (arriving.root / PREDICTED).iterdir())
    assert found == [f"day=2023-04-{n}" for n in (26, 29, 30)]
    code, out, err = arriving.command("predict", "--from", "2023-04-27", "--to", "2023-04-28")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no rows from 2023-04-27 to 2023-04-28; the source's last are of 2023-04-30" in err
    code, out, err = arriving.command("predict", "--from", "9999-12-30", "--to", "9999-12-31")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no rows from 9999-12-30 to 9999-12-31; the source's last are of 2023-04-30" in err


@pytest.mark.parametrize(
    ("known", "first", "note"),
    [
        # The timetable has one outcome of the first coming day: that day is still to come.
        (lambda rows: rows["number"].eq(3) & rows["day"].eq("2023-04-26"), "2023-04-26", ""),
        # Half of a day's outcomes have arrived.
        (lambda rows: rows["number"].lt(8) & rows["day"].eq("2023-04-26"), "2023-04-27",
         "; 2023-04-26 has only 68% of a day's outcomes, the rest are missing"),
    ],
)  # fmt: skip
def test_a_day_is_known_when_most_of_its_outcomes_are(arriving, known, first, note):
    def arrived(rows):
        early = rows["day"] <= "2023-04-25"
        delay = rows["delay"].astype("Int64").fillna(1)
        return rows.assign(delay=delay.where((early & rows["delay"].notna()) | known(rows)))

    arriving.workspace.edit_table("trips", arrived)
    for verb in ("predict", "features"):
        code, out, err = arriving.command(verb)
        assert (code, err) == (0, "")
        assert f" of {first} to 2023-04-30" in out
        assert out.endswith(f"{note}\n")


def test_features_of_other_code_are_told_and_such_as_the_bundle_lacks_are_not_published(arriving):
    commit = manifest.load(arriving.root, "production").pin.commit[:12]
    arriving.command("features")
    store = arriving.root / ".run/features/production.sqlite"
    before = store.read_bytes()
    package = arriving.root / "src/trips"
    real = package.resolve()
    package.unlink()
    shutil.copytree(real, package)
    code, out, err = arriving.command("predict")
    assert (code, err) == (0, "")
    assert f"; src/trips changed since commit {commit}, which trained the model" in out
    file = package / "features.py"
    file.write_text(file.read_text().replace('    "km": "kilometre",\n', ""))
    code, out, err = arriving.command("features")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "features.py: FEATURES: found no km, which the pinned bundle needs" in err
    assert store.read_bytes() == before


def test_of_two_predictions_at_once_both_end_and_each_day_is_whole(arriving):
    """The second waits until the first has read its raw tables."""
    running = [arriving.start("predict") for _ in range(2)]
    ended = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    assert all("60 rows of 2023-04-26 to 2023-04-30 predicted" in out for out, _ in ended)
    rows = pd.read_parquet(arriving.root / PREDICTED)
    assert (len(rows), rows["key"].nunique(), rows["made_at"].nunique()) == (60, 60, 5)
    assert not list((arriving.root / ".run/coming").iterdir())


def test_what_is_away_or_does_not_fit_leaves_the_earlier_predictions(arriving):
    assert arriving.command("predict")[0] == 0
    before = digest(arriving.root / PREDICTED)
    words = ("features", "--to", "redis:FEATURES_URL/trips")
    code, out, err = arriving.command(*words, FEATURES_URL="redis://127.0.0.1:9/0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: features: FEATURES_URL/trips: ")
    package = arriving.root / "src/trips"
    real = package.resolve()
    package.unlink()
    shutil.copytree(real, package)
    file = package / "features.py"
    file.write_text(file.read_text().replace('    "km": "kilometre",\n', ""))
    code, out, err = arriving.command("predict")
    assert (code, out, err) == (2, "", "error: features: column 'km': missing\n")
    (arriving.root / "csv").rename(arriving.root / "away")
    code, out, err = arriving.command("predict")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert digest(arriving.root / PREDICTED) == before


def test_published_features_are_those_of_the_coming_rows(arriving):
    code, out, err = arriving.command("features")
    assert (code, err) == (0, "")
    assert "features of 60 keys of 2023-04-26 to 2023-04-30: embedded: .run/features" in out
    place = str(arriving.root / ".run/features/production.sqlite")
    embedded = stores.store("embedded")
    about = embedded.about(place)
    assert about.keys == 60
    with chdir(arriving.root):
        assert list(status.features(Path())) == ["features of production: 60 keys, 0.0 hours old"]
        embedded.publish(place, about.columns, [], time.time() - 50 * 3600)
        stale = "features of production: 0 keys, 50.0 hours old, refused after 48"
        assert list(status.features(Path())) == [stale]
    arriving.command("features")
    spec, made = features(arriving, date(2023, 4, 26), date(2023, 4, 30))
    import asyncio

    columns, (stored,) = asyncio.run(embedded.connect(place).get([made[spec.key][7]]))
    expected = made.loc[7, list(columns.numeric)].to_numpy(dtype="<f4")
    np.testing.assert_array_equal(np.frombuffer(stored.numeric, dtype="<f4"), expected)
    assert list(stored.categorical) == [v or "" for v in made.loc[7, list(columns.categorical)]]


def test_what_cannot_be_predicted_is_said_in_one_line(clone, monkeypatch):
    monkeypatch.chdir(clone.root)

    def refused():
        settings = clone.params()
        with pytest.raises(UserError) as error:
            predict.predict(settings, Path(), "production", lambda: predict.rows(settings, Path()))
        assert not (clone.root / PREDICTED).exists()
        return str(error.value)

    assert refused() == "environments/production.yaml: pins nothing to predict with"
    clone.pin("production", clone.judged_pin())
    assert refused().startswith(
        "no day from 2023-05-01 to 2023-04-30 to predict: outcomes are known to 2023-04-30"
    )
    clone.workspace.change({"predict": {"sink": "filse"}})
    assert refused().startswith("params.yaml: predict.sink: found 'filse'; did you mean 'files'?")


FLOW = """\
from pathlib import Path
from flows import temporary_server
temporary_server.start_where_needed(Path())
from flows.monitoring import monitoring
monitoring("production")
"""


def over_hours(samples):
    """Date the samples of the service back, three in an hour, as if they had been asked so."""
    for file in samples.iterdir():
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for number, line in enumerate(lines):
            line["time"] -= 3600 * ((len(lines) - number) // 3)
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_row_is_predicted_asked_by_key_and_judged_when_its_outcome_arrives(trained, tmp_path):
    workspace = trained("trips").copy(tmp_path / "repository")
    location = str(workspace.tables())
    workspace.change({"data.location": location, "monitoring.rows": 100})
    workspace.run("register")
    clone = committed(workspace, tmp_path / "remote.git")
    whole = pd.read_csv(clone.workspace.tables() / "trips.csv", dtype={"delay": "Int64"})

    def arrive(known):
        """The source has ten more days of trips than it has outcomes of."""
        delay = whole["delay"].mask(whole["day"] > known)
        rows = whole.assign(delay=delay)[whole["day"] <= "2023-04-10"]
        rows.to_csv(clone.workspace.tables() / "trips.csv", index=False)

    # Trained up to 31 March, and released.
    arrive("2023-03-31")
    clone.pin("production", clone.judged_pin())
    try:
        assert clone.command("reconcile", "production")[0] == 0
        code, out, _ = clone.command("predict")
        assert (code, "120 rows of 2023-04-01 to 2023-04-10 predicted" in out) == (0, True)
        assert clone.command("features")[0] == 0
        predicted = pd.read_parquet(clone.root / PREDICTED).set_index("key")["probability"]
        with chdir(clone.root):
            (_, row) = [r for r in status.status(clone.params(), Path()) if r[0] != "staging"]
        for keys in (list(predicted.index[:1]), list(predicted.index)):
            reply = requests.post(f"{row[5]}/predict", json={"keys": keys}, timeout=60)
            answered = [one["probability"] for one in reply.json()["predictions"]]
            assert answered == predicted[keys].tolist()
    finally:
        stop(clone.root)
    over_hours(clone.root / ".run/local/production/samples")

    code, out, _ = clone.command("monitor", "production")
    assert (code, "no label fits an answer yet" in out) == (0, True)
    arrive("2023-04-10")
    # As a scheduled run does it: in a clone of its own, linked to what all runs share.
    fresh = tmp_path / "fresh"
    clone.git("clone", "--quiet", str(clone.remote), str(fresh))
    checkout._link_kept(clone.root / ".run/worker", fresh, "")
    path = f"{REPOSITORY}:{fresh / 'src'}"
    done = subprocess.run(
        [sys.executable, "-c", FLOW], cwd=fresh, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "PREFECT_HOME": str(tmp_path / "prefect")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    decision = json.loads((fresh / "monitoring/production/decision.json").read_text())
    # A cancelled trip has no outcome, and the key that was asked twice has one.
    first = whole[whole["day"].between("2023-04-01", "2023-04-10")]
    assert decision["labelled"][0]["labels"] == first["delay"].notna().sum()
    assert [q["kind"] for q in decision["labelled"][0]["qualities"]][:1] == ["performance"]
    assert decision["published"]["expected"] == 0
