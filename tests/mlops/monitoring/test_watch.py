"""From log files to a state, a page and gauges; and the message when something is missing."""

import json
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from mlops.base.errors import UserError
from mlops.base.files import folder_digests
from mlops.monitoring import watch
from mlops.monitoring.params import Params
from tests.mlops.monitoring.place import ENVIRONMENT, LIMITS, NOW, PARAMS, ROWS
from tests.mlops.serving import bundles

FILES = {"decision.json", "report.html", "summary.md", "metrics.prom"}


def requests(seed=0, rows=ROWS):
    return bundles.frame(rows, seed=10 + seed)


def broken_sensor(rows):
    return rows.assign(z=np.float32("nan"))


def all_shifted(rows):
    return rows.assign(**{name: rows[name] + np.float32(1.5) for name in bundles.NUMBERS})


def test_rows_like_the_reference_are_ok(place):
    place.answer(requests(0))
    place.answer(requests(1), window=1)
    assessment = place.watch()
    assert (assessment.state, assessment.reasons, assessment.notes) == ("ok", (), ())
    assert assessment.line == f"production {place.pin.digest[:12]}: ok: 600 rows judged"
    assert [window.rows for window in assessment.windows] == [600, 600]


def test_only_an_assessment_of_enough_rows_is_ok_for_a_promotion(place):
    def outcome():
        limits = Params(**PARAMS, monitoring=LIMITS)
        return watch.outcome(limits, place.root, ENVIRONMENT, NOW)

    few = place.answer(requests(0)[:20])
    digest, state = outcome()
    assert (digest, state.endswith(f"{len(few)} of 500 rows: too few to judge drift")) == (
        place.pin.digest, True,
    )  # fmt: skip
    place.answer(requests(0))
    assert outcome() == (place.pin.digest, "ok")
    place.answer(broken_sensor(requests(1)))
    assert ": watch: values are missing: z " in outcome()[1]
    place.repin(None)
    assert outcome() == ("", "environments/production.yaml: pins nothing to watch")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (broken_sensor, "values are missing: z 100%, was 1"),
        (lambda rows: rows.assign(city=np.where(rows.index % 5 == 0, "nowhere", rows["city"])),
         "categories never seen: city 15"),
        (lambda rows: rows.assign(höhe=rows["höhe"] + np.float32(1)), "features drift: höhe "),
        (all_shifted, "4 of 6 features drift (67%), limit 30%"),
    ],
)  # fmt: skip
def test_a_fault_is_named_in_its_first_window(place, fault, reason):
    place.answer(fault(requests(0)))
    place.answer(requests(1), window=1)
    assessment = place.watch()
    assert assessment.state == "watch"
    assert any(r.startswith(reason) for r in assessment.reasons), assessment.reasons


def test_a_feature_with_few_values_is_missing_and_its_drift_not_judged(place):
    rows = all_shifted(requests())
    place.answer(rows.assign(z=rows["z"].where(rows.index % 10 == 0)))
    columns = {column.name: column for column in place.watch().windows[0].features}
    assert columns["z"].drift is None
    assert columns["z"].missing > 0.85
    assert columns["numbers"].drift > 0.5


@pytest.mark.parametrize(("fault", "state"), [(all_shifted, "retrain"), (broken_sensor, "watch")])
def test_lasting_drift_calls_for_retraining_and_a_broken_sensor_does_not(place, fault, state):
    for window in (0, 1):
        place.answer(fault(requests(window)), window)
    assert place.watch().state == state


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_late_labels_are_judged_in_the_window_of_their_answers(pinned, task):
    place = pinned(task)
    rows = requests(0)
    ids = place.answer(rows, window=9)
    place.answer(requests(1), window=0)
    outcome = np.random.default_rng(0).permutation(bundles.outcome(rows, task))
    place.labels({"request": ids, "outcome": outcome})
    assessment = place.watch(labels="labels")
    assert assessment.state == "watch"
    assert "surely worse by" in assessment.reasons[-1]
    assert assessment.labelled[0].until < NOW - timedelta(days=8)
    assert [window.labels for window in assessment.labelled] == [600, 0]


def test_too_few_rows_are_counted_and_the_notes_list_what_was_left_out(place):
    place.answer(all_shifted(requests(rows=20)))
    place.answer(requests(rows=10), replace=(place.pin.digest, "f" * 64))
    (place.root / "labels").mkdir()
    assessment = place.watch(labels="labels")
    assert assessment.state == "ok"
    assert assessment.reasons == ("20 of 500 rows: too few to judge drift",)
    assert assessment.notes == (
        "not judged: 10 rows answered by other bundles",
        "no label fits an answer yet: performance not judged",
    )
    content = json.loads((assessment.folder / "decision.json").read_text())
    assert (content["state"], content["digest"]) == ("ok", place.pin.digest)
    assert datetime.fromisoformat(content["windows"][0]["until"]) == NOW


def test_a_second_run_writes_the_same_and_one_that_fails_changes_nothing(place, monkeypatch):
    from mlops.monitoring import prometheus

    place.answer(requests(rows=10))
    assessment = place.watch()
    assert assessment.windows[0].span == "2026-03-28 12:00 to 2026-03-29 12:00"
    folder = assessment.folder
    first = folder_digests(folder)
    assert set(first) == FILES
    # In whatever time zone.
    place.watch(NOW.astimezone(timezone(timedelta(hours=9))))
    assert folder_digests(folder) == first

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prometheus, "text", full)
    with pytest.raises(OSError):
        place.watch(NOW + timedelta(hours=1))
    assert folder_digests(folder) == first
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logs": "nowhere"}, "params.yaml: monitoring.logs: found 'nowhere', no such folder"),
        ({"labels": "none"}, "params.yaml: monitoring.labels: found 'none', no such folder"),
        ({"ignore": ("numbrs",)},
         "params.yaml: monitoring.ignore: found 'numbrs'; did you mean 'numbers'?"),
        ({"environment": "prod"}, "environments/prod.yaml: not found; known: production"),
        (None, "environments/production.yaml: pins nothing to watch"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_in_one_line(place, changes, message):
    if changes is None:
        place.repin(None)
    with pytest.raises(UserError) as refused:
        place.watch(**changes or {})
    assert str(refused.value) == message


def test_before_anything_is_deployed_there_is_nothing_yet_to_watch(place):
    with pytest.raises(watch.NothingYet):
        place.watch(logs=".run/local/{environment}/samples")


def test_a_file_of_somebody_else_beside_the_report_is_not_removed(place):
    place.answer(requests(0))
    notes = place.watch().folder / "notes.txt"
    place.watch()
    notes.write_text("mine")
    with pytest.raises(UserError, match="notes.txt: found a file that is none of the results"):
        place.watch()
    assert notes.read_text() == "mine"


def test_the_command_prints_a_line_and_exits_with_its_code(place, monkeypatch):
    from click.testing import CliRunner

    from mlops.cli import main

    monkeypatch.chdir(place.root)
    place.answer(requests(rows=10))
    done = CliRunner().invoke(main, ["monitor", ENVIRONMENT])
    assert (done.exit_code, done.output.splitlines()[0][:11]) == (0, "production ")
    (place.logs / "predictions-1.jsonl").unlink()
    place.logs.rmdir()
    done = CliRunner().invoke(main, ["monitor", ENVIRONMENT])
    assert (done.exit_code, len(done.output.splitlines())) == (2, 1)


def test_metrics_are_pushed_to_a_gateway_and_one_that_is_away_stops_nothing(
    place, monkeypatch, capsys
):
    received = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.end_headers()

    place.answer(requests(rows=10))
    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("PROMETHEUS_PUSHGATEWAY", f"127.0.0.1:{server.server_port}")
        folder = place.watch().folder
    path = "/metrics/job/mlops-monitoring/environment/production"
    assert received == [(path, (folder / "metrics.prom").read_bytes())]
    assert place.watch().state == "ok"
    assert "PROMETHEUS_PUSHGATEWAY: 127.0.0.1:" in capsys.readouterr().err
