"""The pull request's comment: the verdict first, then what moved, what changed, how to repeat it.

Plain Markdown: neither forge shows inline SVG or data URIs in comments, so intervals are drawn
with characters, which both show alike.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from mlops.base.errors import UserError
from mlops.base.files import read_json
from mlops.contract import bundle
from mlops.contract.params import FILE as PARAMETERS
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.deploy import manifest
from mlops.evaluation.metrics import ERRORS, main_metric
from mlops.forge import git
from mlops.forge.protocol import GATE, DryRun, State
from mlops.forge.select import current_forge
from mlops.gitops import verdict
from mlops.gitops.gate_inputs import PRODUCTION
from mlops.gitops.markdown import Row, drawing, folded, number, signed, table
from mlops.gitops.verdict import Compared, Verdict
from mlops.registry import store

FILE = "report.md"
KEY = "verdict"
SLICES = 6
COMMITS = 10
ADVICE = {
    "candidate": "Run `make retrain` on this branch, then `mlops gate`.",
    "champion": 'Nothing was compared. See docs/gitops.md, "When the gate refuses".',
}


def run(root: Path) -> Path:
    """Write the comment beside the verdict that it shows; its path."""
    path = root / verdict.FOLDER / FILE
    path.write_text(render(verdict.load(root), root), encoding="utf-8")
    return path


def post(file: Path, head: str | None) -> str:
    """Upsert the comment on the pull request of `head`, or of this CI run; where it is.

    Raises UserError when there is no such file, or no open pull request.
    """
    try:
        body = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(f"{file}: not found; `mlops report` writes it") from None
    forge = current_forge()
    number = forge.number(head)
    if number is None and isinstance(forge, DryRun):
        return f"no forge here; the comment is {file}"
    if number is None:
        raise UserError(f"pull request: none open for {head or 'this run'}")
    return forge.comment(number, body, KEY)


def mark(commit: str, state: State) -> None:
    """Say on a commit what the gate said, for rules that ask for it before a merge."""
    words = {"success": "accepted", "failure": "refused, or not judged"}
    current_forge().status(commit, state, GATE, words.get(state, state))


def render(said: Verdict, root: Path) -> str:
    """The comment's Markdown."""
    card = _card(root)
    parts = [
        _head(said),
        _rules(said),
        _metrics(said, card),
        _slices(said, card),
        _changes(said, card, root),
        _repeat(said, root),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _card(root: Path) -> bundle.Card | None:
    try:
        return bundle.read_card(root / BUNDLE)
    except (UserError, OSError):
        return None


def _head(said: Verdict) -> str:
    mark = "✅ Accepted" if said.accepted else "❌ Refused"
    lines = [f"## {mark}: bundle `{said.candidate[:12] or 'none'}`", ""]
    against = (
        f"`{said.champion[:12]}`, scored by {said.champion_by}"
        if said.champion
        else said.champion_by
    )
    lines.append(f"Champion in production: {against}.")
    for rule in said.refusals:
        advice = ADVICE.get(rule.name, "")
        reason = f"- **{rule.name}**: {rule.why} (found {rule.found}, limit {rule.limit}). {advice}"
        lines.append(reason.rstrip())
    return "\n".join(lines)


def _rules(said: Verdict) -> str:
    rows = [(r.mark, r.name, r.found, r.limit) for r in said.rules]
    return folded(f"{len(said.rules)} rules", table(("", "rule", "found", "limit"), rows))


def _metrics(said: Verdict, card: bundle.Card | None) -> str:
    if not said.metrics:
        return ""
    if said.champion is None:
        rows: list[Row] = [(m.name, number(m.candidate)) for m in said.metrics]
        return "### Holdout\n\n" + table(("metric", "candidate"), rows)
    main = main_metric(card.task)[0] if card else ""
    ordered = sorted(said.metrics, key=lambda m: m.name != main)
    rows = [_compared_row(m) for m in ordered]
    head = ("metric", "candidate", "champion", "difference", "95 % interval")
    title = f"### Candidate and champion on {ordered[0].rows:,} rows of the holdout"
    return f"{title}\n\n{table(head, rows)}\n\n{drawing([(m, m.name) for m in ordered])}"


def _compared_row(m: Compared) -> Row:
    bounds = f"{signed(m.low)} to {signed(m.high)}"
    return (m.name, number(m.candidate), number(m.champion), signed(m.difference), bounds)


def _slices(said: Verdict, card: bundle.Card | None) -> str:
    if card is None or not said.slices:
        return ""
    name, _ = main_metric(card.task)
    if said.champion is None:
        worst = sorted(said.slices, key=lambda s: _worse(s.candidate, name))[:SLICES]
        weak = [(s.name, f"{s.rows:,}", number(s.candidate)) for s in worst]
        return f"### Weakest slices\n\n{table(('slice', 'rows', name), weak)}"
    moved = sorted(said.slices, key=lambda s: -abs(s.difference or 0.0))[:SLICES]
    rows = [(s.name, f"{s.rows:,}", *_compared_row(s)[1:]) for s in moved]
    head = ("slice", "rows", "candidate", "champion", "difference", "95 % interval")
    drawn = drawing([(s, name) for s in moved])
    return f"### Slices that moved most ({name})\n\n{table(head, rows)}\n\n{drawn}"


def _worse(value: float | None, metric: str) -> float:
    """A sorting key that puts the worst first."""
    if value is None:
        return float("inf")
    return -value if metric in ERRORS else value


def _changes(said: Verdict, card: bundle.Card | None, root: Path) -> str:
    if card is None:
        return ""
    since = _since(said, root)
    rows = [*_parameters(since, root), *_model(said, card, root)]
    commits = _commits(since, root)
    parts = ["### What changed", table(("what", "production", "this branch"), rows)]
    if commits:
        parts.append(folded(f"{len(commits)} commits", "\n".join(commits)))
    return "\n\n".join(parts)


def _since(said: Verdict, root: Path) -> str:
    """The commit that made the champion, where it is known here; else the base."""
    text = git.show(root, said.base, manifest.path(PRODUCTION)) if said.champion else None
    pin = manifest.parse(text, "production").pin if text else None
    return pin.commit if pin and git.exists(root, pin.commit) else said.base


def _parameters(base: str, root: Path) -> list[Row]:
    """The keys of params.yaml whose values differ from what they were."""
    before = _leaves(yaml.safe_load(git.show(root, base, PARAMETERS) or "{}") or {})
    after = _leaves(yaml.safe_load((root / PARAMETERS).read_text()))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [(f"`{key}`", str(before.get(key, "-")), str(after.get(key, "-"))) for key in keys]


def _leaves(content: object, path: str = "") -> dict[str, object]:
    if not isinstance(content, dict):
        return {path: content}
    parts = [
        _leaves(value, f"{path}.{key}" if path else str(key)) for key, value in content.items()
    ]
    return {name: value for part in parts for name, value in part.items()}


def _model(said: Verdict, card: bundle.Card, root: Path) -> list[Row]:
    """Family, rows, days and features of both bundles, where they differ."""
    champion = _champion(said, root)
    ours, theirs = _described(card), _described(champion) if champion else {}
    rows: list[Row] = [
        (key, theirs.get(key, "-"), ours[key]) for key in ours if theirs.get(key) != ours[key]
    ]
    if champion:
        mine, its = ({column.name for column in c.inputs} for c in (card, champion))
        rows += [("features added", "", ", ".join(sorted(mine - its)))] if mine - its else []
        rows += [("features removed", ", ".join(sorted(its - mine)), "")] if its - mine else []
    return rows


def _champion(said: Verdict, root: Path) -> bundle.Card | None:
    """The champion's card, which the gate has fetched."""
    if said.champion is None:
        return None
    try:
        return bundle.read_card(root / store.STORE / said.champion / BUNDLE)
    except (UserError, OSError):
        return None


def _described(card: bundle.Card) -> dict[str, str]:
    days = card.trained_on
    return {
        "family": card.family,
        "training rows": f"{days['rows']:,}",
        "training days": f"{days['since']} to {days['until']}",
        "features": str(len(card.inputs)),
        "code": card.hashes["code"][:12],
        "data": card.hashes["data"][:12],
        "holdout": card.hashes["holdout"][:12],
    }


def _commits(base: str, root: Path) -> list[str]:
    try:
        log = git.git(root, "log", f"--max-count={COMMITS}", "--format=- %h %s", f"{base}..HEAD")
    except git.GitError:
        return []
    return log.splitlines()


def _repeat(said: Verdict, root: Path) -> str:
    commit = git.commit(root, "HEAD")[:12]
    metrics = read_json(root / EVIDENCE / "result.json") if (root / EVIDENCE).exists() else {}
    rows = f" The holdout has {metrics['rows']:,} rows." if "rows" in metrics else ""
    return (
        f"Repeat it: `git checkout {commit} && make retrain && mlops gate --base {said.base[:12]} "
        f"&& mlops report`.{rows} The whole evaluation is `report.html` in this run's artifacts."
    )
