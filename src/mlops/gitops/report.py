"""The pull request's comment: the verdict first, then what moved, what changed, how to repeat it.

Plain Markdown: neither forge shows inline SVG or data URIs in comments, so intervals are drawn
with characters, which both show alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlops.base import documents
from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.contract.bundle import Card
from mlops.contract.params import FILE as PARAMETERS
from mlops.contract.paths import BUNDLE
from mlops.evaluation.metrics import main_metric
from mlops.forge import git
from mlops.gitops import pins, verdict
from mlops.gitops.markdown import Row, drawing, folded, table
from mlops.gitops.verdict import Compared, Verdict, number
from mlops.registry import store

FILE = verdict.FOLDER / "report.md"
SLICES = 6
COMMITS = 10
ADVICE = {
    "candidate": "Run `make retrain` on this branch, then `mlops gate`.",
    "champion": 'Nothing was compared. See docs/gitops.md, "When the gate refuses".',
}


def run(root: Path) -> Path:
    """Write the comment beside the verdict that it shows; its path."""
    path = root / FILE
    path.write_text(render(verdict.load(root), root), encoding="utf-8")
    return path


def render(judged: Verdict, root: Path) -> str:
    """The comment's Markdown."""
    card = _card(root / BUNDLE)
    parts = [_head(judged), _judges(judged), _rules(judged), _metrics(judged, card)]
    if card:
        parts += [_slices(judged, card), *_changes(judged, card, root)]
    parts.append(_repeat(judged, root))
    return "\n\n".join(part for part in parts if part) + "\n"


def _card(folder: Path) -> Card | None:
    try:
        return bundle.read_card(folder)
    except (UserError, OSError):
        return None


def _head(judged: Verdict) -> str:
    mark = "✅ Accepted" if judged.accepted else "❌ Refused"
    champion = f"`{judged.champion[:12]}`, scored by " if judged.champion else ""
    lines = [
        f"## {mark}: bundle `{judged.candidate[:12] or 'none'}`",
        "",
        f"Champion in production: {champion}{judged.champion_by}.",
    ]
    for rule in judged.refusals:
        reason = f"- **{rule.name}**: {rule.why} (found {rule.found}, limit {rule.limit})."
        lines.append(f"{reason} {ADVICE.get(rule.name, '')}".rstrip())
    moved = [rule for rule in judged.rules if rule.passed and rule.name.startswith("pin of ")]
    lines += [f"- **{rule.name}**: {rule.found}." for rule in moved]
    return "\n".join(lines)


def _judges(judged: Verdict) -> str:
    """Both verdicts, where the branch changes its own judge."""
    if not judged.judges:
        return ""
    files = "".join(f"\n- `{name}`" for name in judged.judges)
    return (
        f"### ⚠️ It changes its own judge\n\nThe gate of the base: {judged.by_base}\n\n"
        f"The verdict above is by the code of this branch:\n{files}"
    )


def _rules(judged: Verdict) -> str:
    rows = [("✅" if r.passed else "❌", r.name, r.found, r.limit) for r in judged.rules]
    count = "1 rule" if len(rows) == 1 else f"{len(rows)} rules"
    return folded(count, table(("", "rule", "found", "limit"), rows))


def _metrics(judged: Verdict, card: Card | None) -> str:
    if not judged.metrics:
        return ""
    if judged.champion is None:
        values = [(m.name, number(m.candidate)) for m in judged.metrics]
        return f"### Holdout\n\n{table(('metric', 'candidate'), values)}"
    main = main_metric(card.task)[0] if card else ""
    ordered = sorted(judged.metrics, key=lambda m: m.name != main)
    title = f"### Candidate and champion on {ordered[0].rows:,} rows of the holdout"
    return f"{title}\n\n{_compared(('metric',), ordered)}"


def _slices(judged: Verdict, card: Card) -> str:
    name, _ = main_metric(card.task)
    slices = [part for part in judged.slices if part.candidate is not None]
    if not slices:
        return ""
    if judged.champion is None:
        worst = sorted(slices, key=lambda s: s.gain(s.candidate) or 0.0)[:SLICES]
        weak = [(s.name, f"{s.rows:,}", number(s.candidate)) for s in worst]
        return f"### Weakest slices\n\n{table(('slice', 'rows', name), weak)}"
    moved = sorted(slices, key=lambda s: -abs(s.difference or 0.0))[:SLICES]
    return f"### Slices that moved most ({name})\n\n{_compared(('slice', 'rows'), moved)}"


def _compared(head: Row, parts: Sequence[Compared]) -> str:
    """Both models' values as a table, and their differences drawn; `head` begins each row."""
    rows = [
        (*(p.name, f"{p.rows:,}")[: len(head)], number(p.candidate), number(p.champion),
         number(p.difference, "+"), p.interval)
        for p in parts
    ]  # fmt: skip
    values = ("candidate", "champion", "difference", "95 % interval")
    return f"{table((*head, *values), rows)}\n\n{drawing(parts)}"


def _changes(judged: Verdict, card: Card, root: Path) -> Iterator[str]:
    pin = pins.pin_at(root, judged.base, pins.PRODUCTION) if judged.champion else None
    # The commit that made the champion, where it is known here.
    since = pin.commit if pin and git.exists(root, pin.commit) else judged.base
    earlier = git.show(root, since, PARAMETERS)
    before = _leaves(documents.parse(earlier, str(PARAMETERS))) if earlier else {}
    after = _leaves(documents.read(root / PARAMETERS, "the pipeline's parameters"))
    # The gate has fetched it.
    champion = _card(root / store.STORE / judged.champion / BUNDLE) if judged.champion else None
    rows = _differing(before, after)
    rows += _differing(_facts(champion) if champion else {}, _facts(card))
    if champion:
        new, old = ({column.name for column in c.inputs} for c in (card, champion))
        rows += [("features added", "", ", ".join(sorted(new - old)))] if new - old else []
        rows += [("features removed", ", ".join(sorted(old - new)), "")] if old - new else []
    yield "### What changed"
    yield table(("what", "production", "this branch"), rows)
    try:
        log = git.git(root, "log", f"--max-count={COMMITS}", "--format=- %h %s", f"{since}..HEAD")
    except git.GitError:
        log = ""
    if log:
        yield folded(f"{len(log.splitlines())} commits", log.strip())


def _leaves(content: object, path: str = "") -> dict[str, str]:
    """The values of nested mappings, by their dotted keys."""
    if not isinstance(content, dict):
        return {f"`{path.removeprefix('.')}`": str(content)}
    parts = (_leaves(value, f"{path}.{key}") for key, value in content.items())
    return {key: value for part in parts for key, value in part.items()}


def _differing(before: dict[str, str], after: dict[str, str]) -> list[Row]:
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [(key, before.get(key, "-"), after.get(key, "-")) for key in keys]


def _facts(card: Card) -> dict[str, str]:
    """Family, rows, days, hashes and features of a bundle."""
    on = card.trained_on
    days = {"training days": f"{on['since']} to {on['until']}"} if "until" in on else {}
    return {
        "family": card.family,
        "training rows": f"{on['rows']:,}",
        **days,
        "features": str(len(card.inputs)),
        **{name: card.hashes[name][:12] for name in ("code", "data", "holdout")},
    }


def _repeat(judged: Verdict, root: Path) -> str:
    commit = git.commit(root, "HEAD")[:12]
    # Where the gate found no commit, it is the name of one.
    base = judged.base[:12] if re.fullmatch("[0-9a-f]{40}", judged.base) else judged.base
    command = f"git checkout {commit} && make retrain && mlops gate --base {base}"
    return (
        f"Repeat it: `{command} && mlops report`. "
        "The whole evaluation is `report.html` in this run's artifacts."
    )
