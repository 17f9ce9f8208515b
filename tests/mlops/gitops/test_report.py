"""The comment on a pull request: the verdict first, and nothing that breaks a table."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from mlops.base.errors import UserError
from mlops.gitops import gate, markdown, report
from mlops.gitops.verdict import Compared


def rendered(clone):
    with chdir(clone.root):
        return report.run(Path()).read_text()


def columns(text):
    """How many columns each row of each table has, as a forge would see it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows, tables = [], []
    for token in tokens:
        if token.type == "tr_open":
            rows.append(0)
        elif token.type in ("td_open", "th_open"):
            rows[-1] += 1
        elif token.type == "table_close":
            tables.append(rows)
            rows = []
    return tables


def test_a_challenger_is_compared_with_the_champion_in_full(clone):
    champion = clone.judged_pin()
    clone.pin("production", champion)
    verdict = clone.challenge().judge()
    text = rendered(clone)
    mark = "✅ Accepted" if verdict.accepted else "❌ Refused"
    digest = clone.workspace.digest("models/bundle")
    assert text.startswith(f"## {mark}: bundle `{digest[:12]}`\n")
    assert f"Champion in production: `{champion.digest[:12]}`, scored by its bundle." in text
    for metric in verdict.metrics:
        assert f"| {metric.name} | {metric.candidate:.4f} | {metric.champion:.4f} |" in text
    assert "| `seed` | 2013 | 3 |" in text
    assert "| `tune.families` |" in text
    assert "Train anew" in text
    tables = columns(text)
    assert len(tables) >= 4
    assert all(len(set(rows)) == 1 for rows in tables)


def test_a_first_release_shows_its_weakest_slices_and_a_refusal_what_to_do(clone):
    verdict = clone.judge()
    text = rendered(clone)
    assert gate.NO_CHAMPION in text
    assert "### Weakest slices" in text
    assert f"{len(verdict.rules)} rules" in text
    (clone.root / "models/bundle/model.onnx").unlink()
    clone.judge()
    # The next verdict removes the report of the one before.
    assert not (clone.root / report.FILE).exists()
    text = rendered(clone)
    assert text.startswith("## ❌ Refused")
    assert "- **candidate**: " in text
    assert "Run `make retrain` on this branch, then `mlops gate`." in text


def test_a_value_with_a_bar_or_a_line_break_stays_in_its_cell():
    text = markdown.table(("a", "b"), [("x|y", "one\ntwo")])
    assert columns(text) == [[2, 2]]


@pytest.mark.parametrize(
    ("less_is_better", "low", "high", "better"),
    [(False, 0.01, 0.03, True), (False, -0.03, -0.01, False),
     (True, 0.01, 0.03, False), (True, -0.03, -0.01, True)],
)  # fmt: skip
def test_right_of_the_bar_is_better_whatever_the_metric(less_is_better, low, high, better):
    compared = Compared(
        name="m", rows=10, candidate=0.5, champion=0.5, difference=(low + high) / 2,
        low=low, high=high, less_is_better=less_is_better,
    )  # fmt: skip
    line = markdown.drawing([compared]).splitlines()[2]
    assert (line.index("●") > line.index("│")) is better


def test_a_file_of_somebody_else_beside_the_verdict_is_not_removed(clone):
    verdict = clone.judge()
    rendered(clone)
    verdict.save(clone.root)
    notes = clone.root / "verdict/notes.txt"
    notes.write_text("mine")
    with pytest.raises(UserError, match="notes.txt: found a file that is none of the results"):
        verdict.save(clone.root)
    assert notes.read_text() == "mine"
