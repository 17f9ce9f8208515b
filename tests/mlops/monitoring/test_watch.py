"""From log files to a state, a page and metrics; and what is said when something is missing."""

import json
import os
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from mlops.base.errors import UserError
from mlops.base.files import folder_digests
from mlops.monitoring import watch
from tests.mlops.monitoring.place import ENVIRONMENT, NOW, ROWS
from tests.mlops.serving import bundles

# Evidently alone takes longer to be imported.
slow = pytest.mark.slow
FILES = {"decision.json", "report.html", "summary.md", "metrics.prom"}


def asked(seed=0, rows=ROWS):
    return bundles.frame(rows, seed=10 + seed)


def nulls(rows):
    return rows.assign(z=np.float32("nan"))


def words(rows):
    return rows.assign(city=np.where(rows.index % 5 == 0, "nowhere", rows["city"]))


def shifted(rows):
    return rows.assign(höhe=rows["höhe"] + np.float32(1))


def everything(rows):
    return rows.assign(**{name: rows[name] + np.float32(1.5) for name in bundles.NUMBERS})


def good(rows):
    return rows


@slow
def test_what_the_model_knows_is_ok(place):
    place.answer(asked(0))
    place.answer(asked(1), window=1)
    seen = place.watch()
    assert (seen.state, seen.reasons, seen.notes) == ("ok", (), ())
    assert seen.line == f"production {place.pin.digest[:12]}: ok: 600 rows judged"
    assert [window.rows for window in seen.windows] == [600, 600]


@slow
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (nulls, "values are missing: z 100%, was 1"),
        (words, "categories never seen: city 15"),
        (shifted, "features drift: höhe "),
        (everything, "4 of 6 features drift (67%), limit 30%"),
    ],
)
def test_what_breaks_is_seen_in_its_first_window_and_named(place, broken, said):
    place.answer(broken(asked(0)))
    place.answer(asked(1), window=1)
    seen = place.watch()
    assert seen.state == "watch"
    assert any(reason.startswith(said) for reason in seen.reasons), seen.reasons


@slow
def test_a_feature_with_few_values_is_missing_and_its_drift_not_judged(place):
    rows = everything(asked())
    place.answer(rows.assign(z=rows["z"].where(rows.index % 10 == 0)))
    known = {column.name: column for column in place.watch().windows[0].features}
    assert known["z"].drift is None
    assert known["z"].missing > 0.85
    assert known["numbers"].drift > 0.5


@slow
def test_drift_that_lasts_calls_for_another_training_and_a_broken_sensor_does_not(place):
    for window in (0, 1):
        place.answer(everything(asked(window)), window)
    assert place.watch().state == "retrain"
    for file in place.logs.iterdir():
        file.unlink()
    for window in (0, 1):
        place.answer(nulls(asked(window)), window)
    assert place.watch().state == "watch"


@slow
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_labels_that_came_late_are_judged_where_they_are(pinned, task):
    place = pinned(task)
    rows = asked(0)
    late = place.answer(rows, window=9)
    place.answer(asked(1), window=0)
    outcome = np.random.default_rng(0).permutation(bundles.outcome(rows, task))
    place.labels({"request": late, "outcome": outcome})
    seen = place.watch(labels="labels")
    assert seen.state == "watch"
    assert "surely worse by" in seen.reasons[-1]
    assert seen.labelled[0].until < NOW - timedelta(days=8)
    assert [window.labels for window in seen.labelled] == [600, 0]


def test_too_few_rows_are_counted_and_not_judged(place):
    place.answer(everything(asked(rows=20)))
    seen = place.watch()
    assert (seen.state, seen.reasons) == ("ok", ("20 of 500 rows: too few to judge drift",))


def test_what_was_left_out_is_said(place):
    place.answer(asked(rows=10), replace=(place.pin.digest, "f" * 64))
    place.answer(asked(rows=10), window=-1)
    (place.logs / "predictions-1.jsonl").open("a").write('{"time":')
    (place.root / "labels").mkdir()
    assert place.watch(labels="labels").notes == (
        "not judged: 10 rows answered by other bundles",
        "not judged: 10 rows from the future, so a clock is wrong",
        "not judged: 1 lines that can't be read",
        "no label fits an answer yet: performance not judged",
    )


def test_windows_are_the_same_whatever_the_time_zone(place):
    place.answer(asked(rows=10))
    east = place.watch(NOW.astimezone(timezone(timedelta(hours=9))))
    assert east.windows == place.watch().windows
    assert east.windows[0].span == "2026-03-28 12:00 to 2026-03-29 12:00"
    with pytest.raises(ValueError, match="without a time zone"):
        place.watch(datetime(2026, 3, 29))


def test_a_second_run_writes_the_same(place):
    place.answer(asked(rows=10))
    first = folder_digests(place.watch().folder)
    assert set(first) == FILES
    assert folder_digests(place.watch().folder) == first


def test_a_run_that_fails_leaves_the_previous_files_whole(place, monkeypatch):
    from mlops.monitoring import prometheus

    place.answer(asked(rows=10))
    folder = place.watch().folder
    before = folder_digests(folder)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prometheus, "text", full)
    with pytest.raises(OSError):
        place.watch(NOW + timedelta(hours=1))
    assert folder_digests(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"logs": "nowhere"}, "params.yaml: monitoring.logs: found 'nowhere', no such folder"),
        ({"labels": "none"}, "params.yaml: monitoring.labels: found 'none', no such folder"),
        ({"ignore": ("numbrs",)},
         "params.yaml: monitoring.ignore: found 'numbrs'; did you mean 'numbers'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(place, changes, said):
    with pytest.raises(UserError) as error:
        place.watch(**changes)
    assert str(error.value) == said


def test_an_environment_that_pins_nothing_is_said(place):
    place.repin(None)
    with pytest.raises(UserError) as error:
        place.watch()
    assert str(error.value) == "environments/production.yaml: pins nothing to watch"


def test_an_environment_that_is_not_there_is_said(place):
    with pytest.raises(UserError, match="environments/prod.yaml: not found; known: staging"):
        watch.run(place.params(), place.root, "prod", NOW)


def test_the_verb_says_a_line_and_ends_with_its_code(place, monkeypatch):
    from click.testing import CliRunner

    from mlops.cli import main

    monkeypatch.chdir(place.root)
    place.write_params()
    place.answer(asked(rows=10))
    done = CliRunner().invoke(main, ["monitor", ENVIRONMENT])
    assert (done.exit_code, done.output.splitlines()[0][:11]) == (0, "production ")
    (place.logs / "predictions-1.jsonl").unlink()
    place.logs.rmdir()
    done = CliRunner().invoke(main, ["monitor", ENVIRONMENT])
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1


def test_the_decision_is_json_that_others_can_read(place):
    place.answer(asked(rows=10))
    content = json.loads((place.watch().folder / "decision.json").read_text())
    assert content["state"] == "ok"
    assert content["digest"] == place.pin.digest
    assert content["windows"][0]["until"] == "2026-03-29T12:00:00+00:00"


def test_metrics_are_pushed_where_a_gateway_is_named(place, monkeypatch, capsys):
    heard = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place.answer(asked(rows=10))
    monkeypatch.setenv("PROMETHEUS_PUSHGATEWAY", f"127.0.0.1:{server.server_port}")
    folder = place.watch().folder
    assert heard == [
        ("/metrics/job/mlops-monitoring/environment/production",
         (folder / "metrics.prom").read_bytes())
    ]  # fmt: skip
    server.shutdown()
    server.server_close()
    assert place.watch().state == "ok"
    assert "PROMETHEUS_PUSHGATEWAY: 127.0.0.1:" in capsys.readouterr().err
    assert "PROMETHEUS_PUSHGATEWAY" in os.environ
