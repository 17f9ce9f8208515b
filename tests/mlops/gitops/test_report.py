"""The comment on a pull request: the verdict first, and nothing that breaks a table."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from mlops.base.errors import UserError
from mlops.gitops import gate, markdown, report, verdict
from mlops.gitops.verdict import Compared
from tests.forge_server import ForgeServer


@pytest.fixture
def server(monkeypatch):
    """A forge to speak to, which the environment names."""
    with ForgeServer() as forge:
        for name, value in forge.github().items():
            monkeypatch.setenv(name, value)
        yield forge


def rendered(clone):
    with chdir(clone.root):
        return report.run(Path()).read_text()


def tables(text):
    """How many columns each row of each table has, as a forge would see it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows, found = [], []
    for token in tokens:
        if token.type == "tr_open":
            rows.append(0)
        elif token.type in ("td_open", "th_open"):
            rows[-1] += 1
        elif token.type == "table_close":
            found.append(rows)
            rows = []
    return found


@pytest.fixture
def challenged(clone):
    """A challenger whose champion is in production; main knows both."""
    champion = clone.judged_pin()
    clone.pin("production", champion)
    clone.retrain(seed=5, tune__families=["lightgbm"])
    return clone, champion


def test_the_verdict_comes_first(challenged):
    clone, champion = challenged
    accepted = clone.judge().accepted
    text = rendered(clone)
    mark = "✅ Accepted" if accepted else "❌ Refused"
    digest = clone.workspace.digest("models/bundle")
    assert text.startswith(f"## {mark}: bundle `{digest[:12]}`\n")
    assert f"Champion in production: `{champion.digest[:12]}`, scored by its bundle." in text


def test_both_models_are_compared_on_every_metric_with_intervals(challenged):
    clone, _ = challenged
    said = clone.judge()
    text = rendered(clone)
    for metric in said.metrics:
        assert f"| {metric.name} | {metric.candidate:.4f} | {metric.champion:.4f} |" in text


def test_what_changed_since_production_is_told(challenged):
    clone, _ = challenged
    clone.judge()
    text = rendered(clone)
    assert "| `seed` | 2013 | 5 |" in text
    assert "| `tune.families` |" in text
    assert "Train anew" in text


def test_a_refusal_says_why_and_what_to_do(clone):
    (clone.root / "models" / "bundle" / "model.onnx").unlink()
    clone.judge()
    text = rendered(clone)
    assert text.startswith("## ❌ Refused")
    assert "- **candidate**: " in text
    assert "Run `make retrain` on this branch, then `mlops gate`." in text


def test_a_first_release_shows_its_weakest_slices(clone):
    clone.judge()
    text = rendered(clone)
    assert "none yet: the limits alone decide" in text
    assert "### Weakest slices" in text


def test_every_table_has_as_many_cells_in_each_row_as_in_its_head(challenged):
    clone, _ = challenged
    clone.judge()
    found = tables(rendered(clone))
    assert len(found) >= 4
    assert all(len(set(rows)) == 1 for rows in found)


def test_a_value_with_a_bar_or_a_line_break_stays_in_its_cell():
    text = markdown.table(("a", "b"), [("x|y", "one\ntwo")])
    assert tables(text) == [[2, 2]]


@pytest.mark.parametrize(
    ("metric", "low", "high", "better"),
    [("roc_auc", 0.01, 0.03, True), ("roc_auc", -0.03, -0.01, False),
     ("log_loss", 0.01, 0.03, False), ("log_loss", -0.03, -0.01, True)],
)  # fmt: skip
def test_right_of_the_bar_is_better_whatever_the_metric(metric, low, high, better):
    compared = Compared(
        name=metric, rows=10, candidate=0.5, champion=0.5, difference=(low + high) / 2,
        low=low, high=high,
    )  # fmt: skip
    line = markdown.drawing([(compared, metric)]).splitlines()[2]
    assert (line.index("●") > line.index("│")) is better


def test_without_a_verdict_there_is_nothing_to_report(clone):
    with chdir(clone.root), pytest.raises(UserError, match="`mlops gate` writes it"):
        report.run(Path())


def test_the_next_verdict_takes_the_old_report_away(clone):
    clone.judge()
    rendered(clone)
    clone.judge()
    assert not (clone.root / verdict.FOLDER / report.FILE).exists()


def test_the_comment_is_posted_once_and_then_updated(clone, server):
    clone.judge()
    rendered(clone)
    number = server.open("feature").number
    with chdir(clone.root):
        for _ in range(2):
            report.post(verdict.FOLDER / report.FILE, "acme:feature")
        report.mark("a" * 40, "success")
    assert len(server.on(number)) == 1
    assert [(s.state, s.context) for s in server.statuses] == [("success", "mlops/gate")]


def test_a_comment_without_a_pull_request_is_an_error_that_names_the_branch(clone, server):
    clone.judge()
    rendered(clone)
    named = "pull request: none open for acme:nothing"
    with chdir(clone.root), pytest.raises(UserError, match=named):
        report.post(verdict.FOLDER / report.FILE, "acme:nothing")


def test_a_report_that_is_not_there_is_said_to_be_written_by_report():
    with pytest.raises(UserError, match="nowhere.md: not found; `mlops report` writes it"):
        report.post(Path("nowhere.md"), None)


def test_the_gate_and_the_report_speak_of_the_same_rules(clone):
    said = clone.judge()
    assert gate.NO_CHAMPION in said.champion_by
    assert f"{len(said.rules)} rules" in rendered(clone)
